"""The published tables as a page reads them: rows by what they agree with, and cells that remember their runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from private_lora.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Row:
    """A line of a table. number: 1 is the first below the names of columns."""

    table: str
    number: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str | float | None:
        """A number where the text is one, None where the cell is empty; UserError if there is no such column."""
        if column not in self.values:
            raise UserError(f"table {self.table} has no column {column!r}: it has {', '.join(self.values)}")
        return value_of(self.values[column])

    @property
    def run_ids(self) -> list[str]:
        """The runs behind it."""
        return self.values.get("run_ids", "").split()


def value_of(text: str) -> str | float | None:
    """What a cell of a CSV holds."""
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def select(rows: list[Row], where: Mapping) -> list[Row]:
    """Rows whose columns have the values asked for; of a list of values, one of them; None: an empty cell."""
    return [row for row in rows if all(_agrees(row[column], wanted) for column, wanted in where.items())]


def _agrees(value, wanted) -> bool:
    if isinstance(wanted, list | tuple):
        return any(_agrees(value, one) for one in wanted)
    return value == (float(wanted) if isinstance(wanted, int | float) else wanted)


def only(rows: list[Row], what: str, where: Mapping) -> Row:
    """The one row that there must be."""
    if len(rows) != 1:
        conditions = ", ".join(f"{column}={wanted!r}" for column, wanted in where.items())
        raise UserError(f"{len(rows)} rows of {what} have {conditions}, and a cell needs one")
    return rows[0]


class Tables:
    """CSV files of a directory, each read when it is first asked for."""

    def __init__(self, directory: Path):
        self._directory = directory
        self.rows = cache(self._read)

    def _read(self, name: str) -> list[Row]:
        return read_rows(self._directory / f"{name}.csv", name)


def read_rows(path: Path, name: str) -> list[Row]:
    """All rows of a CSV; UserError if there is no such file."""
    if not path.is_file():
        raise UserError(f"there is no table {path}: make it with `snakemake --cores 2 --configfile config/recorded.yaml`")
    with open(path, newline="", encoding="utf-8") as handle:
        return [Row(name, number, values) for number, values in enumerate(csv.DictReader(handle), 1)]
