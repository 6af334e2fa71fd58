"""README and docs: links lead somewhere, paths exist, commands are understood, and the front door stays short."""

from __future__ import annotations

import importlib
import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import yaml

from private_lora.publish.docs.prose import numbers_in
from private_lora.publish.docs.site import build_site

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy" / "README.md"]
TEMPLATES = ROOT / "docs" / "templates"
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

MOST_WORDS = 1000
# Folders whose files the repository has. What a study makes (results/, logs/, certificates/) is not there to be found.
KEPT = ("config", "deploy", "docs", "profiles", "resources", "results/recorded", "src", "tests", "workflow")
# Words that are jargon here: a page that has one links to where it is defined.
JARGON = re.compile(r"\b(joint|jointly|twins?|hint)\b", re.IGNORECASE)

FENCE = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"<img[^>]*\ssrc=\"([^\"]+)\"")
HEREDOC = re.compile(r"^cat > (\S+) <<'?(\w+)'?\n.*?^\2$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:python -m private_lora|private-lora)\b")
# Stands for something that the reader puts in.
ELLIPSIS = re.compile(r"\.\.\.|<\w+>")


@dataclass
class Text:
    """A page in parts: prose (code blocks out), inline code, commands of its shell blocks, files that they write."""

    prose: str
    inline: list[str]
    commands: list[str] = field(default_factory=list)
    written: set[str] = field(default_factory=set)


@cache
def text_of(page: Path) -> Text:
    source = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    prose = FENCE.sub("", source)
    text = Text(prose, [" ".join(code.split()) for code in INLINE.findall(prose)])
    for _, language, body in FENCE.findall(source):
        if language in ("", "sh", "bash", "console"):
            text.written |= {name for name, _ in HEREDOC.findall(body)}
            text.commands += commands_of(HEREDOC.sub("", body))
    return text


def commands_of(block: str) -> list[str]:
    """Its lines with continuations joined and the block's own variables put in."""
    found, variables = [], {}
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        line = re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), line.strip())
        if assigned := re.fullmatch(r'(\w+)="([^"]*)"', line):
            variables[assigned[1]] = assigned[2]
        elif line:
            found.append(line)
    return found


def arguments_of(command: str) -> list[str]:
    """Words up to a comment, a pipe or the end of the command."""
    words = shlex.split(command, comments=True)
    end = next((i for i, word in enumerate(words) if word in ("&", "&&", "|", ";", ">")), len(words))
    return words[:end]


@cache
def build_parser(command: str):
    for module in ("private_lora.cli", "private_lora.cli.main"):
        build = getattr(importlib.import_module(module), "build_parser", None)
        if build is not None:
            return build(command)
    raise AssertionError("no build_parser in private_lora.cli")


@cache
def anchors_of(page: Path) -> set[str]:
    """What a `#fragment` may name: headings, as the usual renderers make them, and explicit ids."""
    prose = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"<a id=\"([^\"]+)\"", prose))


def exists(path: str, text: Text) -> bool:
    return path in text.written or (ROOT / path).exists()


@by_page
def test_links_lead_somewhere(page):
    prose = text_of(page).prose
    for target in LINK.findall(prose) + IMAGE.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert file.is_relative_to(ROOT), f"{target}: outside the repository"
        assert not anchor or anchor in anchors_of(file), f"{target}: no such heading"


@by_page
def test_paths_exist(page):
    text = text_of(page)
    for code in text.inline:
        if not re.fullmatch(r"[\w.\-/*<>]+", code):
            continue
        if not code.startswith(tuple(f"{folder}/" for folder in KEPT)):
            continue
        pattern = re.sub(r"<\w+>", "*", code).rstrip("/")
        assert any(ROOT.glob(pattern)), f"`{code}`: no such path"


@by_page
def test_make_targets_exist(page):
    text = text_of(page)
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in text.commands + text.inline:
        if not command.startswith("make "):
            continue
        for word in arguments_of(command)[1:]:
            name, is_set, value = word.partition("=")
            if not is_set:
                assert name in targets, f"{command}: no target {name}"
            elif name == "CONFIG" and not ELLIPSIS.search(value):
                assert exists(value, text), f"{command}: no such file"


@by_page
def test_snakemake_calls_name_what_there_is(page):
    text = text_of(page)
    sources = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    rules = set(re.findall(r"^\s*rule (\w+):", "\n".join(path.read_text() for path in sources), re.MULTILINE))
    targets = rules | set(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()))
    with_value = {"--cores", "--configfile", "--workflow-profile", "--profile", "--max-threads", "--resources"}
    for command in text.commands + text.inline:
        if not re.match(r"(\S*/)?snakemake ", command) or ELLIPSIS.search(command):
            continue
        words = arguments_of(command)[1:]
        while words:
            word = words.pop(0)
            value = words.pop(0) if word in with_value and words else None
            if word in ("--configfile", "--workflow-profile", "--profile"):
                assert exists(value, text), f"{command}: {value} does not exist"
                follows = words[0] if words else "-"
                assert word != "--configfile" or follows.startswith("-"), f"{command}: Snakemake takes {follows} for a file too"
            elif not word.startswith("-") and "/" not in word:
                assert word in targets, f"{command}: no target {word}"


@by_page
def test_commands_are_understood(page, capsys):
    text = text_of(page)
    for command in text.commands + text.inline:
        if not COMMAND.match(command) or ELLIPSIS.search(command):
            continue
        words = arguments_of(COMMAND.sub("", command))
        is_mention = command in text.inline and len(words) == 1
        try:
            build_parser(words[0]).parse_args([*words, "--help"] if is_mention else words)
        except SystemExit as end:
            assert end.code == 0, f"{command}: {capsys.readouterr().err}"
        config = words[words.index("--config") + 1] if "--config" in words else None
        assert config is None or exists(config, text), f"{command}: no such file"


@by_page
def test_jargon_is_defined(page):
    if page.name != "glossary.md" and (used := JARGON.search(text_of(page).prose)):
        assert re.search(r"\(\S*glossary\.md#", page.read_text()), f"{used[0]}: without a link to the glossary"


def test_every_page_is_linked_from_the_front_door():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in LINK.findall(text_of(ROOT / "README.md").prose)}
    assert sorted(set((ROOT / "docs").glob("*.md")) - linked) == []


def test_the_front_door_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS


@by_page
def test_no_placeholder_is_left(page):
    assert "PLACEHOLDER" not in page.read_text()


@by_page
def test_no_number_comes_from_nowhere(page):
    """In prose; of a page that has a template, in the template's."""
    template = TEMPLATES / page.relative_to(ROOT)
    source = template if template.exists() else page
    assert [found.where(source.relative_to(ROOT)) for found in numbers_in(source.read_text())] == []


def test_every_template_is_of_a_page():
    assert {TEMPLATES / page.relative_to(ROOT) for page in PAGES} >= set(TEMPLATES.rglob("*.md"))


def test_the_site_has_every_page_once():
    named = re.findall(r"^ +- .*?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(named) == len(set(named)) and {ROOT / name for name in named} >= set(PAGES)


def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path):
    build_site(tmp_path)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = re.compile(r"(?:\bsrc|<link[^>]*\shref)=\"(\w+:)?//")
    assert [page.name for page in pages if loaded.search(page.read_text())] == []
