"""Result rows: one tidy schema for every stage, written atomically."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.files import atomic_path
from private_lora.results.schema import COLUMNS, SCHEMA_VERSION, check_schema

BLANK = dict.fromkeys(COLUMNS, "") | {"schema_version": SCHEMA_VERSION}


@dataclass
class Recorder:
    """Collects rows that share the columns of one run.

    common: values of the columns that do not change. rows: dictionaries with all COLUMNS, empty string where missing.
    """

    common: dict
    rows: list[dict] = field(default_factory=list)

    def add(self, metric: str, value, unit: str = "", *, phase: str = "", status: str = "ok", **columns) -> None:
        """Append one row; a value of None is an empty cell, for a status that is not ok."""
        row = BLANK | self.common
        row.update(columns)
        row.update(metric=metric, value="" if value is None else value, unit=unit, phase=phase, status=status)
        unknown = set(row) - set(COLUMNS)
        if unknown:
            raise ValueError(f"not a column of the result schema: {', '.join(sorted(unknown))}")
        self.rows.append({k: "" if v is None else v for k, v in row.items()})

    def add_shares(self, shares: dict[str, float]) -> None:
        """Rows of CPU time that others took, as `provenance.Start` measured it."""
        for metric, share in shares.items():
            self.add(metric, share, "fraction", phase="run")

    def resume(self, rows: list[dict]) -> None:
        """Go on from the rows of an interrupted run, which an older version may have saved without the newer columns."""
        self.rows = [BLANK | self.common | row for row in rows]

    def relabel(self, columns: dict) -> None:
        """Set columns of all rows, past and future, for a backend that learns only at the end what it did."""
        self.common = self.common | columns
        for row in self.rows:
            row.update({k: "" if v is None else v for k, v in columns.items()})

    def write(self, path: Path) -> None:
        """All rows as CSV."""
        write_rows(path, self.rows)


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows as a CSV with COLUMNS, in place of whatever was there, all or nothing."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def collect(paths: list[Path], out: Path) -> None:
    """The rows of several runs in one CSV, in the order given; raises UserError if a file has other columns."""
    rows: list[dict] = []
    for path in paths:
        with open(path, newline="") as handle:
            reader = csv.DictReader(handle)
            found = tuple(reader.fieldnames or ())
            read = list(reader)
            check_schema(path, found, {row.get("schema_version", "") for row in read})
            if found != COLUMNS:
                raise UserError(f"{path} does not have the columns of the result schema")
            rows.extend(read)
    write_rows(out, rows)
