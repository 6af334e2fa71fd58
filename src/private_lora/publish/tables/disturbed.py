"""What other programs took of the machine while a line's runs were measured, said in the line."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

NOT_MEASURED = "other programs ran meanwhile (recorded before it was measured)"
NOTE = (
    "disturbed: other programs ran on the machine during a measurement behind the line, and took so much of the CPU time: "
    "its times are too long by an unknown amount."
)


def with_disturbed(table: pd.DataFrame, disturbed: Mapping[str, float]) -> pd.DataFrame:
    """The table with a column `disturbed` before `basis` and a note, where a run behind one of its lines was; else as it is.

    disturbed: share of the CPU time that others took, by run id; NaN where it is known only that they did.
    """
    said = [_said(text, disturbed) for text in table["run_ids"]] if "run_ids" in table else []
    if not any(said):
        return table
    marked = table.copy()
    marked.insert(list(table.columns).index("basis"), "disturbed", said)
    marked.attrs["notes"] = [*table.attrs.get("notes", ()), NOTE]
    return marked


def _said(run_ids: str, disturbed: Mapping[str, float]) -> str:
    """Of the runs named, what was taken most; what was not measured counts for more, because it may be anything."""
    shares = [disturbed[name] for name in str(run_ids).split() if name in disturbed]
    if not shares:
        return ""
    return NOT_MEASURED if any(math.isnan(share) for share in shares) else f"others took {max(shares):.0%} of the CPU"
