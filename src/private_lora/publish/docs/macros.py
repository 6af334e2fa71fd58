"""What a template can call: each value with its source, which the page remembers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from private_lora.core.errors import UserError
from private_lora.core.names import load_object
from private_lora.core.paths import RESOURCES, ROOT
from private_lora.costs.estimate_text import text_of
from private_lora.publish.docs.formats import Sourced, shown, unit_of
from private_lora.publish.docs.prose import has_number
from private_lora.publish.docs.sources import Sources
from private_lora.publish.docs.tables import Row, Tables, only, read_rows, select
from private_lora.publish.gpu import TABLES, said_of
from private_lora.publish.tables.disturbed import OF_TIMES

IMAGES = Path("docs/images")
REFERENCE = RESOURCES / "reference"
# Columns of what a line with a unit is of.
OF_QUANTITY = ("measured", "error_percent", "value_median")
DEFAULT_CONFIG = "config/config.yaml"


def _is_disturbed(row: Row, column: str) -> bool:
    """Whether a cell is a time, or made of one, that other programs made too long."""
    of_time = OF_TIMES.search(column) or (row.values.get("unit") == "s" and column in OF_QUANTITY)
    return bool(row.values.get("disturbed")) and bool(of_time)


class Macros:
    """The calls of one page, with what they used. page: its path in the repository."""

    def __init__(self, page: Path, tables: Tables, sources: Sources):
        self.page = page
        self.cells: dict[tuple[Row, str], None] = {}
        self.published: dict[Row, None] = {}
        self.figures: dict[str, None] = {}
        self._tables, self._sources = tables, sources
        self._keys: set = set()
        self._chosen: set = set()

    def functions(self) -> dict:
        """By the names that templates use."""
        names = (
            "cell",
            "rows",
            "table",
            "chosen",
            "figure",
            "spec",
            "estimate",
            "config",
            "code",
            "reference",
            "stated",
            "gpu",
        )
        return {name: getattr(self, name) for name in names}

    def rows(self, table: str, **where) -> list[Row]:
        """All rows of a table that agree, at least one."""
        self._remember(where)
        found = select(self._tables.rows(table), where)
        if not found:
            raise UserError(f"no row of table {table} has {where}")
        return found

    def cell(self, table: str | Row, column: str, show: str = "", **where) -> Sourced:
        """A cell of a row, or of the one row of a table that agrees."""
        row = table if isinstance(table, Row) else only(self.rows(table, **where), f"table {table}", where)
        if row[column] is None:
            raise UserError(f"table {row.table}, row {row.number}: {column} is empty")
        if _is_disturbed(row, column):
            raise UserError(f"table {row.table}, row {row.number}: {column} was disturbed, and is not to be quoted")
        self.cells[row, column] = None
        return shown(row[column], show, unit_of(column, row.values.get("unit", "")))

    def table(self, table: str, columns: Mapping[str, str | tuple], **where) -> Sourced:
        """Rows that agree as a Markdown table. columns: by heading, a column's name, or that and how it is shown.

        A time that was disturbed is not shown.
        """
        self._no_numbers(*columns)
        rows = self.rows(table, **where)
        lines = [list(columns), ["---"] * len(columns)]
        lines += [[self._cell_or_nothing(row, column) for column in columns.values()] for row in rows]
        return Sourced("\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines))

    def _cell_or_nothing(self, row: Row, column: str | tuple) -> str:
        name, *how = [column] if isinstance(column, str) else column
        if _is_disturbed(row, name):
            return "disturbed"
        return self.cell(row, name, *how) if row[name] is not None else ""

    def chosen(self, value: int | float, show: str = "") -> Sourced:
        """A value by which a cell of the page was chosen; checked when the page is complete."""
        self._chosen.add(value)
        return shown(value, show or ",")

    def figure(self, name: str, alt: str) -> Sourced:
        """The image of a published figure. alt: says what it shows to those who cannot see it."""
        self._no_numbers(alt)
        self.figures[name] = None
        return Sourced(f"![{alt}]({os.path.relpath(IMAGES / f'{name}.png', self.page.parent)})")

    def spec(self, row: Row, path: str, show: str = "") -> Sourced:
        """A setting of the recorded run whose row it is, as `config` has those of configurations."""
        self.cells[row, "run_ids"] = None
        return _plain(_at(self._sources.sidecar(row)["spec"], path, f"the spec of table {row.table}, row {row.number},"), show)

    def estimate(self, row: Row) -> Sourced:
        """What `private-lora estimate` said before the recorded run whose row it is, as it prints it."""
        self.cells[row, "run_ids"] = None
        return Sourced(text_of(self._sources.sidecar(row)["estimate"]))

    def config(self, path: str, show: str = "", file: str = DEFAULT_CONFIG) -> Sourced:
        """A value of a configuration, by keys and numbers of list entries with dots between them."""
        return _plain(_at(yaml.safe_load((ROOT / file).read_text()), path, file), show)

    def code(self, name: str, show: str = "") -> Sourced:
        """A constant: `room.module:NAME`, or `room.module:NAME.attribute`."""
        module, _, path = name.partition(":")
        first, *attributes = path.split(".")
        try:
            value = load_object(f"private_lora.{module}:{first}")
            for attribute in attributes:
                key = int(attribute) if attribute.isdigit() else attribute
                value = value[key] if isinstance(value, Mapping) else getattr(value, attribute)
        except (ImportError, AttributeError, KeyError):
            raise UserError(f"the code has no {name}") from None
        return _plain(value, show)

    def reference(self, column: str, show: str = "", file: str = "paper_values.csv", **where) -> Sourced:
        """A cell of a file of published values; the page names its source."""
        self._remember(where)
        row = only(select(read_rows(REFERENCE / file, file), where), file, where)
        self.published[row] = None
        return shown(row[column], show, unit_of(column, row.values.get("unit", "")))

    def gpu(self) -> Sourced:
        """That no row is measured on a GPU; empty once there is one."""
        return Sourced(said_of(row["device"] for name in TABLES for row in self._tables.rows(name)))

    def stated(self, value: str, reason: str) -> Sourced:
        """A target or a definition. reason: why there can be no record of it."""
        if not reason.strip():
            raise UserError(f"stated({value!r}) needs a reason")
        return Sourced(value)

    def check(self) -> None:
        """UserError if a value was called chosen and no cell was chosen by it."""
        for value in self._chosen - self._keys:
            raise UserError(f"chosen({value}): no cell of this page is chosen by it")

    def _remember(self, where: Mapping) -> None:
        for wanted in where.values():
            self._keys |= set(wanted) if isinstance(wanted, list | tuple) else {wanted}

    def _no_numbers(self, *texts: str) -> None:
        for text in texts:
            if has_number(text) and not isinstance(text, Sourced):
                raise UserError(f"{text!r} has a number that comes from nowhere")


def _at(value, path: str, where: str):
    for key in path.split("."):
        try:
            value = value[int(key) if isinstance(value, list) else key]
        except (LookupError, TypeError, ValueError):
            raise UserError(f"{where} has no {path}") from None
    return value


def _plain(value, show: str) -> Sourced:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Sourced(value)
    return shown(value, show or ",")
