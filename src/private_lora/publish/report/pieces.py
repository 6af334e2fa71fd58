"""What the page is made of: figures and tables as its template shows them, with what can be downloaded inside the page."""

from __future__ import annotations

import base64
import mimetypes
import shlex
from dataclasses import dataclass
from pathlib import Path

from private_lora.publish.report.lines import Tables
from private_lora.publish.tables.render import CSV_ONLY, NUMBER, for_reading
from private_lora.specs.published import Published

# Points of a figure beyond this many bytes stay beside the page, which would be slow to open with them.
LARGEST_POINTS = 200_000
# Longer texts are wrapped.
LONG_TEXT = 40
# Words of these columns are marked.
MARKED = ("verdict", "status", "basis")


@dataclass(frozen=True)
class Figure:
    """A figure. points: what to download, or empty where they are too large."""

    name: str
    title: str
    caption: str
    image: str
    pdf: str
    points: str


@dataclass(frozen=True)
class Cell:
    """text, and the classes of the style that it is shown in."""

    text: str
    kind: str


@dataclass(frozen=True)
class Row:
    """number: as `private-lora trace` counts. run_ids: of the runs behind it."""

    number: int
    cells: list[Cell]
    run_ids: list[str]


@dataclass(frozen=True)
class Table:
    """A table, with its notes, what to download, and how to trace a line of it."""

    name: str
    title: str
    caption: str
    columns: list[str]
    rows: list[Row]
    notes: list[str]
    csv: str
    trace: str


def data_uri(path: Path) -> str:
    """The file inside an address, so that nothing is requested; empty where there is none."""
    if not path.is_file():
        return ""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def figure(entry: Published, directory: Path) -> Figure | None:
    """The figure of an entry; None where it was not drawn, or has no points."""
    image, points = (directory / f"{entry.name}{suffix}" for suffix in (".png", ".csv"))
    if not image.is_file() or not _has_rows(points):
        return None
    small = points.stat().st_size <= LARGEST_POINTS
    pdf = data_uri(image.with_suffix(".pdf"))
    return Figure(entry.name, entry.title, entry.caption, data_uri(image), pdf, data_uri(points) if small else "")


def _has_rows(points: Path) -> bool:
    if not points.is_file():
        return False
    with open(points, encoding="utf-8") as lines:
        return sum(1 for _, line in zip(range(2), lines, strict=False) if line.strip()) == 2


def table(entry: Published, tables: Tables) -> Table | None:
    """The table of an entry; None where it was not made, or has no rows."""
    lines = tables[entry.name]
    if not lines:
        return None
    shown = for_reading(tables.frame(entry.name))
    cells = [[_cell(name, text) for name, text in zip(shown.columns, row, strict=True)] for row in shown.values.tolist()]
    rows = [Row(line.row, row, line.run_ids) for line, row in zip(lines, cells, strict=True)]
    path = tables.path(entry.name)
    trace = f"private-lora trace {shlex.quote(str(path))} --row 1" if CSV_ONLY[0] in tables.frame(entry.name) else ""
    notes = tables.notes(entry.name)
    return Table(entry.name, entry.title, entry.caption, list(shown.columns), rows, notes, data_uri(path), trace)


def _cell(column: str, text: str) -> Cell:
    kinds = ["number" if NUMBER.match(text) else "long" if len(text) > LONG_TEXT else "short"]
    if column in MARKED and text:
        kinds.append(f"is-{text.split()[0].lower()}")
    return Cell(text, " ".join(kinds))
