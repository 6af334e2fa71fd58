"""Acceptance figures of the measured full steps and of the cost model that predicts them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from private_lora.publish.tables.full_step import full_steps
from private_lora.results.reader import Data

FULL, MINI = "Llama-3.2-1B", "mini-llama"
MOST_SECONDS, MOST_BYTES, MOST_ERROR = 240, 20e9, 0.25


def cost_claims(data: Data) -> Iterator[tuple]:
    """Text, values by run, target, limit, whether the limit is a least value, bases, detail: as `block_claims`."""
    steps = full_steps(data)
    steps = steps[(steps["backend"] == "packed") & (steps["variant"] == "") & (steps["blocks"] == steps["model_blocks"])]
    full = steps[steps["architecture"] == FULL]
    said = "{steps:.0f} step of {tokens:.0f} tokens, {encrypted_matmuls:.0f} encrypted products, {machine}"
    counts = "; ".join(said.format(**line) for _, line in full.iterrows())
    what = f"packed, full step of {FULL}"
    text = f"{what}: seconds, slowest step"
    yield text, full["step_time_s_max"], f"<= {MOST_SECONDS}", MOST_SECONDS, False, full["basis"], counts
    text = f"{what}: peak memory of client and server together, bytes"
    yield text, full["peak_memory_bytes"].astype(float), f"<= {MOST_BYTES:.0e}", MOST_BYTES, False, full["basis"], counts
    compared = full[full["steps_equal_to_integer"].notna()]
    unequal = (compared["steps"] - compared["steps_equal_to_integer"]).astype(float)
    yield f"{what}: steps whose loss differs from the integer run's", unequal, "0", 0, False, full["basis"], counts
    for name in (FULL, MINI):
        yield _error(name, steps[steps["architecture"] == name])


def _error(name: str, steps: pd.DataFrame) -> tuple:
    known = steps[steps["prediction_error_percent"].notna()]
    errors = known["prediction_error_percent"].astype(float).abs() / 100
    seconds = "; ".join(
        f"{line['predicted_step_time_s']:.4g} s predicted, {line['step_time_s_median']:.4g} s measured"
        for _, line in known.iterrows()
    )
    text = f"cost model, step of {name} under packed: distance of the prediction from the measured median step"
    return text, errors, f"<= {MOST_ERROR:g}", MOST_ERROR, False, ["measured", "extrapolated"], seconds
