"""The pages as a site, by MkDocs: the front page is README.md, and every file that a page links to is in it."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT

CONFIG = ROOT / "mkdocs.yml"
START = Path("README.md")
LINKED = re.compile(r"\]\(([^)\s#]+)[^)]*\)|\ssrc=\"([^\"]+)\"")


def linked_files(start: Path = START, root: Path = ROOT) -> list[Path]:
    """Paths in the repository: a page, what it links to, what those pages link to, and so on."""
    found, unread = {start}, [start]
    while unread:
        path = unread.pop()
        new = set(_links_of(path, root)) - found if path.suffix == ".md" else set()
        found |= new
        unread += new
    return sorted(found)


def _links_of(page: Path, root: Path) -> list[Path]:
    targets = [next(filter(None, groups)) for groups in LINKED.findall((root / page).read_text())]
    paths = [(root / page).parent.joinpath(target).resolve() for target in targets if ":" not in target]
    return [path.relative_to(root) for path in paths if path.is_file() and path.is_relative_to(root)]


def build_site(out: Path) -> None:
    """Write the site into directory `out`; UserError with what MkDocs says if a page has a broken link, or is not in `nav`."""
    try:
        from mkdocs.commands.build import build
        from mkdocs.config import load_config
        from mkdocs.exceptions import MkDocsException
    except ImportError:
        raise UserError("the site needs MkDocs: pip install 'private-lora[docs]'") from None
    heard = _Heard()
    logging.getLogger("mkdocs").addHandler(heard)
    try:
        with tempfile.TemporaryDirectory() as directory:
            for path in linked_files():
                copy = Path(directory) / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, copy)
            build(load_config(str(CONFIG), docs_dir=directory, site_dir=str(out.absolute()), strict=True))
    except MkDocsException as error:
        raise UserError("; ".join([*heard.warnings, str(error)])) from None
    finally:
        logging.getLogger("mkdocs").removeHandler(heard)


class _Heard(logging.Handler):
    """What was warned of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.warnings.append(record.getMessage())
