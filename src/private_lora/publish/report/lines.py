"""Lines of published tables, as answers read them: a value by its column, and its text as the table shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from private_lora.publish.tables.render import ends_of, is_empty, notes_in, text_of

# Plaintext products and steps that ours are measured over, by the end of a column's name.
OVER = {
    "float32": "float32 (torch)",
    "float32_onednn": "float32 (oneDNN)",
    "integer": "integers in the clear",
    "int8": "int8",
    "bf16": "bf16",
}


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a table. row: 1 is the first below the names of columns, as `private-lora trace` counts."""

    table: str
    row: int
    values: Mapping

    def __getitem__(self, column: str):
        """The value; None where it is missing, or the table has no such column."""
        value = self.values.get(column)
        return None if is_empty(value) else value

    def number(self, column: str) -> float:
        """The value as a number; NaN where there is none."""
        value = self[column]
        return float("nan") if value is None or isinstance(value, str) else float(value)

    def text(self, column: str) -> str:
        """The cell as the table shows it, without limits; empty where the value is missing."""
        return text_of(column, self[column])

    def limits(self, column: str) -> str:
        """`low to high` of the cell's spread or interval; empty where it has none, or both are the same."""
        ends = [self.text(name) for name in ends_of(column, self.values)]
        return f"{ends[0]} to {ends[1]}" if ends and all(ends) and ends[0] != ends[1] else ""

    def ranged(self, column: str, unit: str = "") -> str:
        """The cell with its unit, and its limits in brackets."""
        limits = self.limits(column)
        return f"{self.text(column)}{unit and f' {unit}'}{limits and f' ({limits})'}"

    def ratios(self, pattern: str, products: Iterable[str] = OVER) -> str:
        """`1.2 times float32, 3.1 times int8; bf16 not measured`: each ratio of the line; empty where there is none.

        pattern: of the columns, such as `step_time_over_{}`. products: which of OVER there can be.
        """
        known = {name: column for name in products if self[column := pattern.format(name)] is not None}
        if not known:
            return ""
        said = ", ".join(f"{self.ranged(column)} times {OVER[name]}" for name, column in known.items())
        return said if "bf16" in known else f"{said}; bf16 not measured"

    @property
    def run_ids(self) -> list[str]:
        """The runs behind the line."""
        return (self["run_ids"] or "").split()


class Tables(Mapping):
    """Lines of the tables in a directory, by the table's name: none where there is no such file, or it has no rows."""

    def __init__(self, directory: Path, names: Iterable[str]):
        self._directory, self._names = directory, tuple(names)
        self._frames: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> list[Line]:
        frame = self.frame(name)
        return [Line(name, number, values) for number, values in enumerate(frame.to_dict("records"), 1)]

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def frame(self, name: str) -> pd.DataFrame:
        """The whole table, as its CSV has it."""
        if name not in self._frames:
            path = self.path(name)
            known = name in self._names and path.is_file() and path.stat().st_size
            self._frames[name] = pd.read_csv(path, keep_default_na=False, na_values=[""]) if known else pd.DataFrame()
        return self._frames[name]

    def path(self, name: str, suffix: str = ".csv") -> Path:
        """Where a file of the table is."""
        return self._directory / f"{name}{suffix}"

    def notes(self, name: str) -> list[str]:
        """What stands below the table."""
        path = self.path(name, ".md")
        return notes_in(path.read_text(encoding="utf-8")) if path.is_file() else []

    @cached_property
    def run_ids(self) -> list[str]:
        """Every run behind a line of a table, once, in the order of the tables."""
        return list(dict.fromkeys(run_id for name in self for line in self[name] for run_id in line.run_ids))
