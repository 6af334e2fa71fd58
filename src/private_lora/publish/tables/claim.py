"""One acceptance figure: values by run against a target, and the line that says whether it was met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from private_lora.results.labels import ids_of, join_basis

COLUMNS = ["claim", "value", "target", "verdict", "detail", "basis", "run_ids"]
MET, MISSED, NO_DATA, NO_TARGET, FAILS = "met", "MISSED", "no data", "no target", "FAILS"


@dataclass(frozen=True)
class Claim:
    """Values, one for each of the lines behind them (with columns `basis` and `run_ids`), and the limit that all must keep.

    limit: largest allowed value, or smallest if `at_least`; None where the value is reported only. strict: the limit itself
    does not count. signed: an error, which may be as far below 0 as above it: the farthest is shown, with its sign. target:
    the limit in words, if its number is not enough. beside: further lines that a value depends on.
    """

    text: str
    values: pd.Series
    lines: pd.DataFrame
    limit: float | None = None
    at_least: bool = False
    strict: bool = False
    signed: bool = False
    target: str = ""
    detail: str = ""
    beside: tuple[pd.DataFrame, ...] = ()

    def line(self) -> dict:
        """The line of the table: the value that is hardest on the claim among the finite ones, and the verdict."""
        values = self.values.astype(float)
        finite = values[np.isfinite(values)]
        value = self._worst(finite) if len(finite) else np.nan
        by_run = f"by run: {', '.join(self._each(values))}" if len(values) else ""
        detail = "; ".join(part for part in (self.detail, by_run) if part)
        behind = (self.lines, *self.beside) if len(values) else ()
        basis = join_basis(part for lines in behind for text in lines["basis"] for part in text.split(" + "))
        found = [self.text, value, self._target(), self._verdict(values, value), detail, basis, ids_of(*behind)]
        return dict(zip(COLUMNS, found, strict=True))

    def _worst(self, values: pd.Series) -> float:
        if self.signed:
            return max(values, key=abs)
        return (min if self.at_least and self.limit is not None else max)(values)

    def _each(self, values: pd.Series) -> list[str]:
        """Every value, with its machine where they are not all of one."""
        if "machine" not in self.lines or len(self.lines) != len(values) or self.lines["machine"].nunique() < 2:
            return [self._text(value) for value in values]
        return [f"{self._text(value)} ({machine})" for value, machine in zip(values, self.lines["machine"], strict=True)]

    def _text(self, value: float) -> str:
        return f"{value:+.5g}" if self.signed else f"{value:.5g}"

    def _target(self) -> str:
        if self.limit is None:
            return "none"
        if self.signed:
            return self.target or f"-{self.limit:,g} to +{self.limit:,g}"
        sign = (">" if self.at_least else "<") + ("" if self.strict else "=")
        return self.target or f"{sign} {self.limit:,g}"

    def _verdict(self, values: pd.Series, worst: float) -> str:
        """A run without a finite value misses the target: it is no missing data, it is a run that failed."""
        if not len(values):
            return NO_DATA
        if self.limit is None:
            return NO_TARGET
        distance = abs(worst) if self.signed else worst
        within = distance >= self.limit if self.at_least else distance <= self.limit
        return MET if np.isfinite(values).all() and within and not (self.strict and worst == self.limit) else MISSED


def said(lines: pd.DataFrame, text: str) -> str:
    """The text filled with each line's columns, joined by semicolons."""
    return "; ".join(text.format(**line) for _, line in lines.iterrows())


def table_of(claims: Iterable[dict]) -> pd.DataFrame:
    """The lines as a table with all columns."""
    return pd.DataFrame(list(claims), columns=COLUMNS)
