"""What other programs took of the machine while a line's runs were measured, said in the line."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

# Columns of times, of ratios of them, and of shares of what an interface carried meanwhile.
OF_TIMES = re.compile(r"(^|_)(time|s|ms)(_|$)|(server|client)_over_|_over_interface")
NOTE = (
    "disturbed: other programs ran on the machine during a measurement behind the line, so that its times are too long by an "
    "unknown amount, and ratios of them wrong by one: no page quotes them."
)


def with_disturbed(table: pd.DataFrame, disturbed: Mapping[str, str]) -> pd.DataFrame:
    """The table with a column `disturbed` before `basis` and a note, where a run behind one of its lines was; else as it is.

    disturbed: what disturbed a run, by its id.
    """
    said = [_said(text, disturbed) for text in table["run_ids"]] if "run_ids" in table else []
    if not any(said):
        return table
    marked = table.copy()
    marked.insert(list(table.columns).index("basis"), "disturbed", said)
    marked.attrs["notes"] = [*table.attrs.get("notes", ()), NOTE]
    return marked


def _said(run_ids: str, disturbed: Mapping[str, str]) -> str:
    """What disturbed the runs named; empty if nothing did."""
    return "; ".join(dict.fromkeys(disturbed[name] for name in run_ids.split() if name in disturbed))
