"""Pages from their templates."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError

from private_lora.core.errors import UserError
from private_lora.core.files import atomic_path
from private_lora.core.paths import ROOT
from private_lora.publish.docs.formats import Sourced
from private_lora.publish.docs.macros import IMAGES, Macros
from private_lora.publish.docs.prose import has_number, numbers_in
from private_lora.publish.docs.sources import Sources
from private_lora.publish.docs.tables import Tables
from private_lora.publish.docs.wrap import wrap

TEMPLATES = ROOT / "docs" / "templates"
# Pages that leave it to another one to say where their numbers come from, because they must stay short.
SOURCES_AT = {Path("README.md"): Path("docs/results.md")}
NOTE = '<!-- Written by "make docs" from docs/templates/{}: edit that. -->\n\n'


class Pages:
    """All pages that have a template, by their path in the repository, and what each of them used."""

    def __init__(self, tables: Tables, templates: Path | None = None):
        self._tables, self._sources, self._templates = tables, Sources(), templates or TEMPLATES
        self._environment = environment(self._templates)
        self.used: dict[Path, Macros] = {}

    @property
    def figures(self) -> list[str]:
        """Names of all figures that the rendered pages show."""
        return sorted({name for used in self.used.values() for name in used.figures})

    def render(self) -> dict[Path, str]:
        """Texts by path; UserError, with the template and what is wrong, if one cannot be rendered."""
        paths = sorted(path.relative_to(self._templates) for path in self._templates.rglob("*.md"))
        texts = {path: self._fill(path) for path in paths}
        return {path: text + self._section(path) for path, text in texts.items()}

    def _fill(self, path: Path) -> str:
        if found := numbers_in((self._templates / path).read_text()):
            raise UserError(f"{found[0].where(path)} stands in the template's prose: take it from a cell")
        macros = self.used[path] = Macros(path, self._tables, self._sources)
        try:
            text = self._environment.get_template(str(path)).render(macros.functions())
            macros.check()
        except (UserError, TemplateError) as error:
            line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise UserError(f"template of {path}{line}: {error}") from None
        return NOTE.format(path) + wrap(text.rstrip("\n")) + "\n"

    def _section(self, path: Path) -> str:
        """Where the numbers come from: of the page, and of pages that leave it to this one."""
        told = [path, *(page for page, other in SOURCES_AT.items() if other == path and page in self.used)]
        rows = {row: None for page in told for row, _ in self.used[page].cells}
        published = {row: None for page in told for row in self.used[page].published}
        if path in SOURCES_AT or not (rows or published):
            return ""
        return "\n" + self._sources.section(rows, published)


def environment(templates: Path) -> Environment:
    """Jinja's, which lets no number out that has no source."""
    made = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_with_source,
    )
    made.concat = lambda parts: Sourced("".join(parts))  # of what came through `finalize`, or is prose of the template
    return made


def _with_source(value):
    if isinstance(value, Sourced) or not has_number(str(value)):
        return value
    raise UserError(f"{value!r} has a number that comes from nowhere: take it from a cell")


def write_pages(results: Path, root: Path = ROOT) -> list[Path]:
    """Write pages and images that are not current, from a directory with `tables` and `figures`; their paths under `root`."""
    pages = Pages(Tables(results / "tables"))
    made = {path: text.encode() for path, text in pages.render().items()}
    made |= {IMAGES / f"{name}.png": (results / "figures" / f"{name}.png").read_bytes() for name in pages.figures}
    stale = [path for path, content in made.items() if not (root / path).is_file() or (root / path).read_bytes() != content]
    for path in stale:
        with atomic_path(root / path, shared=True) as temporary:
            temporary.write_bytes(made[path])
    return stale
