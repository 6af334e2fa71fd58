"""Lines of the table of published numbers: the published half, our half, and why there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.results.labels import ids_of, join_basis
from private_lora.results.reader import Data

COLUMNS = [
    "quantity",
    "published_setting",
    "our_setting",
    "tokens_published",
    "tokens_ours",
    "published",
    "ours",
    "ratio_ours_to_published",
    "normalisation",
    "unit",
    "differences",
    "certainty",
    "source",
    "not_checked",
    "published_basis",
    "basis",
    "run_ids",
]


def published_rows(data: Data, item: str, metric: str | None = None) -> pd.DataFrame:
    """Published values of an item, and of one metric if given; single steps left out."""
    rows = data.published_values
    rows = rows[(rows["item"] == item) & rows["step"].isna()]
    return rows if metric is None else rows[rows["metric"] == metric]


def published_line(quantity: str, row, normalisation: str, scale: float = 1.0, unit: str = "", tokens: float = np.nan) -> dict:
    """The published half of a line: its value divided by `scale`; `metric` only tells entries of one setting apart.

    tokens: of the batch that it was published for, where it is a cost by token.
    """
    return {
        "tokens_published": tokens,
        "quantity": quantity,
        "published_setting": row["configuration"],
        "published": row["value"] / scale,
        "normalisation": normalisation,
        "unit": unit,
        "certainty": row["certainty"],
        "source": row["source"],
        "metric": row["metric"],
        "published_basis": "published",
    }


def our_side(setting: str, value: float, behind, differences: str, tokens: float = np.nan) -> dict:
    """Our half of a line. behind: the run or line that the value is of, or lines of one basis; tokens: of its batch."""
    basis = behind["basis"] if isinstance(behind["basis"], str) else join_basis(behind["basis"])
    line = {"our_setting": setting, "ours": value, "basis": basis, "differences": differences}
    return line | {"tokens_ours": tokens, "run_ids": ids_of(behind)}


def nothing(reason: str) -> dict:
    """Our half of a line where there is nothing of ours, and why."""
    return {"our_setting": "", "ours": np.nan, "basis": "", "differences": "", "not_checked": reason, "run_ids": ""}


def run_name(run) -> str:
    """A fine-tuning run of ours as the table names it."""
    precision = f"{run['activation_bits']:.0f}-bit {run['quantizer']}"
    return f"{run['model']}, {run['label']}, {precision}, seed {run['seed']:.0f}"
