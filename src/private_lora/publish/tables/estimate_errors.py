"""Table of the stage estimate: what was said before a run, and what the run measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.costs.inputs import warm_median
from private_lora.results.labels import bits_label, ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import FAILED, OK, run_metrics, series_of

COLUMNS = ["model", "backend", "bits", "machine", "tokens", "quantity", "estimated", "measured", "unit", "error_percent"]
COLUMNS += ["estimated_how", "calibration_s", "status", "basis", "run_ids"]
RUN = ("upload_ciphertext_bytes", "download_ciphertext_bytes", "hint_bytes", "hint_time_s", "peak_memory_bytes", "step_tokens")
BYTES = ("upload_bytes_per_token", "download_bytes_per_token", "hint_bytes")
PLANNED, EXTRAPOLATED = "planned", "extrapolated"


def estimate_errors(data: Data) -> pd.DataFrame:
    """A line for each quantity of each run that was estimated before it."""
    groups = data.estimate.groupby(["run_id", "machine"], sort=False)
    table = pd.DataFrame([line for _, rows in groups for line in _lines(rows)], columns=COLUMNS)
    table.attrs["notes"] = [
        "error: estimated over measured, less 100 %; a negative one promised too little. peak memory: of client and worker in "
        "one process. planned: bytes follow from the plans of all layers, so that any error is a mistake; extrapolated: from "
        "products of the model's shapes, wide ones in part, the local work of one or two blocks, and plans of the first block "
        "where the model is large. Of one backend each: its steps beside float32, integer and bf16 are in `full_step`.",
    ]
    return table


def _lines(rows: pd.DataFrame) -> list[dict]:
    """Of one run."""
    first = rows.iloc[0]
    said = rows[rows["phase"] == "estimate"].set_index("metric")
    line = {name: first[name] for name in ("model", "backend", "machine")}
    line |= {
        "bits": bits_label(first["activation_bits"], first["weight_bits"]),
        "calibration_s": said.loc["calibration_time_s", "value"],
    }
    line |= {"status": OK if (rows["status"] == OK).all() else FAILED, "run_ids": ids_of(rows)}
    counted = run_metrics(rows, RUN)
    steps = series_of(rows, "train", "step_time_s")
    tokens = len(steps) * counted["step_tokens"]
    measured = {
        "step_time_s": warm_median(steps),
        "upload_bytes_per_token": counted["upload_ciphertext_bytes"] / tokens,
        "download_bytes_per_token": counted["download_ciphertext_bytes"] / tokens,
        **{name: counted[name] for name in ("hint_bytes", "hint_time_s", "peak_memory_bytes")},
    }
    planned = said.loc["bytes_are_planned", "value"] == 1
    return [
        line
        | {
            "tokens": counted["step_tokens"],
            "quantity": name,
            "estimated": (estimated := said.loc[f"estimated_{name}", "value"]),
        }
        | {"measured": value, "unit": said.loc[f"estimated_{name}", "unit"], "error_percent": _error(estimated, value)}
        | {"estimated_how": PLANNED if planned and name in BYTES else EXTRAPOLATED, "basis": "extrapolated + measured"}
        for name, value in measured.items()
    ]


def _error(estimated: float, measured: float) -> float:
    return 100 * (estimated / measured - 1) if measured else np.nan
