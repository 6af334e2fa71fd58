"""Lines of the table of published numbers: the published half, our half, and why there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.results.reader import Data

COLUMNS = [
    "quantity",
    "published_setting",
    "our_setting",
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
]


def published_rows(data: Data, item: str, metric: str | None = None) -> pd.DataFrame:
    """Published values of an item, and of one metric if given; single steps left out."""
    rows = data.published_values
    rows = rows[(rows["item"] == item) & rows["step"].isna()]
    return rows if metric is None else rows[rows["metric"] == metric]


def published_line(quantity: str, row, normalisation: str, scale: float = 1.0, unit: str = "") -> dict:
    """The published half of a line: its value divided by `scale`; `metric` only tells entries of one setting apart."""
    return {
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


def our_side(setting: str, value: float, basis: str, differences: str) -> dict:
    """Our half of a line."""
    return {"our_setting": setting, "ours": value, "basis": basis, "differences": differences}


def nothing(reason: str) -> dict:
    """Our half of a line where there is nothing of ours, and why."""
    return {"our_setting": "", "ours": np.nan, "basis": "", "differences": "", "not_checked": reason}


def run_name(run) -> str:
    """A fine-tuning run of ours as the table names it."""
    precision = f"{run['activation_bits']:.0f}-bit {run['quantizer']}"
    return f"{run['model']}, {run['label']}, {precision}, seed {run['seed']:.0f}"
