"""Acceptance figures of the measured full steps and of the cost model that predicts them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from private_lora.publish.tables.claim import Claim, said
from private_lora.publish.tables.full_step import full_steps
from private_lora.results.labels import CALLS
from private_lora.results.reader import Data

# The targets were set for these models.
FULL, MINI = "Llama-3.2-1B", "mini-llama"
MOST_SECONDS, MOST_BYTES, MOST_ERROR = 240, 20e9, 0.25
COUNTS = "{steps:.0f} step of {tokens:.0f} tokens, {remote_calls_per_step:.0f} remote calls, {machine}"


def cost_claims(data: Data) -> Iterator[Claim]:
    """Seconds, memory, equal losses and bytes of measured steps under `packed`, and how far predictions were off."""
    steps = full_steps(data)
    steps = steps[(steps["backend"] == "packed") & (steps["variant"] == "") & (steps["blocks"] == steps["model_blocks"])]
    full, what = steps[steps["architecture"] == FULL], f"packed, full step of {FULL}"
    counts = said(full, COUNTS)
    yield Claim(f"{what}: seconds, slowest step", full["step_time_s_max"], full, MOST_SECONDS, detail=counts)
    text = f"{what}: peak memory of client and server together, bytes"
    yield Claim(text, full["peak_memory_bytes"], full, MOST_BYTES, detail=counts)
    compared = full[full["steps_equal_to_integer"].notna()]
    unequal = (compared["steps"] - compared["steps_equal_to_integer"]).astype(float)
    text = f"{what}: steps whose loss differs from the integer run's"
    yield Claim(text, unequal, compared, 0, target="0", detail=counts)
    for inputs, arrangement in CALLS.items():
        yield from _over_clear(full[full["inputs"] == inputs], f"{what}, {arrangement}")
    for name in (FULL, MINI):
        yield _error(name, steps[steps["architecture"] == name])


def _over_clear(steps: pd.DataFrame, what: str) -> Iterator[Claim]:
    """The step over the same step in the clear, and its bytes, for which there is no target."""
    for name in ("float32", "integer", "bf16"):
        found = steps[steps[f"step_time_over_{name}"].notna()]
        if name == "bf16" and not len(found):
            continue
        yield Claim(f"{what}: median step over {name}'s with the same calls", found[f"step_time_over_{name}"], found)
    size = steps["upload_bytes_per_token"] + steps["download_bytes_per_token"]
    counts = said(steps, "{remote_calls_per_step:.0f} remote calls")
    yield Claim(f"{what}: ciphertext bytes per token, up and down", size, steps, detail=counts)


def _error(name: str, steps: pd.DataFrame) -> Claim:
    known = steps[steps["prediction_error_percent"].notna()]
    errors = known["prediction_error_percent"].astype(float).abs() / 100
    seconds = said(known, "{predicted_step_time_s:.4g} s predicted, {step_time_s_median:.4g} s measured")
    predicted = known.assign(basis=known["prediction_basis"])
    text = f"cost model, step of {name} under packed: distance of the prediction from the measured median step"
    return Claim(text, errors, known, MOST_ERROR, detail=seconds, beside=(predicted,))
