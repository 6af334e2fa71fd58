"""Table of what a worker receives: tokens read back by the same attack, in the clear and from ciphertexts, beside guessing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import chisquare

from private_lora.publish.tables.intervals import Z_95, wilson
from private_lora.results.labels import bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import run_metrics

RUN = ("questions", "read_tokens", "vocabulary", "commonest_token_count", "received_values", "received_bits", "correlation")
RUN += ("chance_share", "encrypted_matmuls", "security_bits")
COLUMNS = [
    "model",
    "dataset",
    "layer",
    "backend",
    "bits",
    "options",
    "questions",
    "read_tokens",
    "recovered_tokens",
    "recovered_percent",
    "recovered_percent_low",
    "recovered_percent_high",
    "chance_percent",
    "uniform_guess_percent",
    "commonest_token_percent",
    "vocabulary",
    "inputs",
    "received_bits",
    "received_values",
    "uniform_top_bits_p",
    "correlation",
    "correlation_low",
    "correlation_high",
    "encrypted_matmuls",
    "security_bits",
    "basis",
    "run_ids",
]


def worker_view(data: Data) -> pd.DataFrame:
    """One line per model and backend: tokens recovered with their interval, and what the numbers themselves look like."""
    lines = [_line(rows) for _, rows in data.worker_view.groupby(["run_id", "machine"], sort=False)]
    table = in_order(pd.DataFrame(lines, columns=COLUMNS), ["model", "dataset", "backend"])
    table.attrs["notes"] = [
        "recovered: tokens of all questions whose input of the first layer correlates most with what the worker received, "
        "with 95 % Wilson interval. chance: what the same attack is expected to read back from random numbers. uniform guess: "
        "1 / vocabulary. commonest token: what a guess gets that looks at nothing and always says the commonest token of this "
        "text. Each question is encrypted afresh.",
        "uniform top bits p: of a chi-square test that the upper four bits of the numbers received are uniform. "
        "correlation: of those numbers with the client's integers, with 95 % interval (Fisher): of numbers without any, one "
        "interval in twenty does not hold 0. Both treat the numbers as independent, which activations in the clear are not.",
        "An illustration of what travels, and no proof of security, which rests on RLWE and its parameters. A worker sees "
        "shapes and the number of rows in any case.",
    ]
    return table


def _line(rows: pd.DataFrame) -> dict:
    first, counted = rows.iloc[0], run_metrics(rows, RUN)
    recovered = rows.loc[rows["metric"] == "recovered_tokens", "value"].sum()
    asked = counted["read_tokens"]
    line = {name: first[name] for name in ("model", "dataset", "layer", "backend", "options", "inputs")} | counted
    line |= {"bits": bits_label(first["activation_bits"], first["weight_bits"]), "recovered_tokens": recovered}
    shares = {"recovered": recovered / asked, "chance": counted["chance_share"], "uniform_guess": 1 / counted["vocabulary"]}
    shares["commonest_token"] = counted["commonest_token_count"] / asked
    line |= {f"{name}_percent": 100 * share for name, share in shares.items()}
    line["recovered_percent_low"], line["recovered_percent_high"] = (100 * end for end in wilson(recovered, asked))
    line["uniform_top_bits_p"] = float(chisquare(rows.loc[rows["metric"] == "top_bits_count", "value"]).pvalue)
    line["correlation_low"], line["correlation_high"] = fisher(counted["correlation"], counted["received_values"])
    return line | {"basis": join_basis(rows["basis"]), "run_ids": ids_of(rows)}


def fisher(correlation: float, pairs: float) -> tuple[float, float]:
    """Ends of the 95 % interval of a correlation of so many pairs, by Fisher's transform; NaN of fewer than four."""
    if not pairs > 3:
        return math.nan, math.nan
    # Of a correlation of 1, to the last digit, the transform is infinite, and the interval a point.
    with np.errstate(divide="ignore"):
        middle = np.arctanh(np.clip(correlation, -1, 1))
    half = Z_95 / math.sqrt(pairs - 3)
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))
