"""Acceptance figures of the measured full steps and of the cost model that predicts them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from private_lora.costs.model import JOINT
from private_lora.publish.tables.block import block_summary
from private_lora.publish.tables.claim import Claim, said
from private_lora.publish.tables.cost_validation import ALL_UNSEEN, MOST_ERROR, cost_validation
from private_lora.publish.tables.full_step import full_steps
from private_lora.results.labels import CALLS
from private_lora.results.reader import Data

# The targets were set for these models.
FULL, MINI = "Llama-3.2-1B", "mini-llama"
MOST_SECONDS, MOST_BYTES = 240, 20e9
# Largest allowed median step over the float32 step of the same program, where int8 products take at most INT8_SHARE of
# float32's time, and elsewhere; of fewer tokens; and bytes a token.
STEP, STEP_ELSEWHERE, INT8_SHARE, SMALL_STEP, SMALL_TOKENS = 1.15, 1.3, 0.15, 1.5, 512
BYTES_PER_TOKEN = 5.1e6
SMALL_MODEL, SMALL_SECONDS, SMALL_BYTES = "SmolLM2-135M", 15, 2.1e6
COUNTS = "{steps:.0f} step of {tokens:.0f} tokens, {remote_calls_per_step:.0f} remote calls, {machine}"


def cost_claims(data: Data) -> Iterator[Claim]:
    """Seconds, memory, equal losses and bytes of measured steps under `packed`, and how far predictions were off."""
    steps = full_steps(data)
    steps = steps[(steps["backend"] == "packed") & (steps["options"] == "") & (steps["blocks"] == steps["model_blocks"])]
    full, what = steps[steps["architecture"] == FULL], f"packed, full step of {FULL}"
    small = steps[steps["architecture"] == SMALL_MODEL]
    counts = said(small, COUNTS)
    text = f"packed, full step of {SMALL_MODEL}: median"
    yield Claim(f"{text} seconds", small["step_time_s_median"], small, SMALL_SECONDS, detail=counts)
    size = small["upload_bytes_per_token"] + small["download_bytes_per_token"]
    yield Claim(f"packed, full step of {SMALL_MODEL}: bytes per token, up and down", size, small, SMALL_BYTES, detail=counts)
    counts = said(full, COUNTS)
    yield Claim(f"{what}: seconds, slowest step", full["step_time_s_max"], full, MOST_SECONDS, detail=counts)
    text = f"{what}: peak memory of client and server together, bytes"
    yield Claim(text, full["peak_memory_bytes"], full, MOST_BYTES, detail=counts)
    compared = full[full["steps_equal_to_integer"].notna()]
    unequal = (compared["steps"] - compared["steps_equal_to_integer"]).astype(float)
    text = f"{what}: steps whose loss differs from the integer run's"
    yield Claim(text, unequal, compared, 0, target="0", detail=counts)
    for inputs, arrangement in CALLS.items():
        same = full[full["inputs"] == inputs]
        for tokens in sorted(set(same["tokens"])):
            yield from _over_clear(same[same["tokens"] == tokens], f"{what}, {arrangement}, {tokens:,.0f} tokens", data)
    for name in (FULL, MINI):
        yield _error(name, steps[steps["architecture"] == name])
    yield _unseen(data)


def _step_limit(steps: pd.DataFrame, data: Data) -> float:
    """Of a step over float32's; the stricter one only if int8 products are that fast on all machines of these steps."""
    blocks = block_summary(data)
    blocks = blocks[blocks["machine"].isin(set(steps["machine"])) & blocks["float32_over_int8"].notna()]
    is_fast = len(blocks) and (blocks["float32_over_int8"] >= 1 / INT8_SHARE).all()
    if steps["tokens"].max() <= SMALL_TOKENS:
        return SMALL_STEP
    return STEP if is_fast else STEP_ELSEWHERE


def _over_clear(steps: pd.DataFrame, what: str, data: Data) -> Iterator[Claim]:
    """The step over the same step in the clear, and its bytes."""
    for name in ("float32", "float32_onednn", "integer", "bf16"):
        found = steps[steps[f"step_time_over_{name}"].notna()]
        if name in ("bf16", "float32_onednn") and not len(found):
            continue
        limit = _step_limit(found, data) if name == "float32" and len(found) else None
        if name == "float32_onednn":  # the faster of the two, beside which int8 is not that fast
            limit = SMALL_STEP if found["tokens"].max() <= SMALL_TOKENS else STEP_ELSEWHERE
        yield Claim(f"{what}: median step over {name}'s with the same calls", found[f"step_time_over_{name}"], found, limit)
    size = steps["upload_bytes_per_token"] + steps["download_bytes_per_token"]
    counts = said(steps, "{remote_calls_per_step:.0f} remote calls")
    limit = BYTES_PER_TOKEN if (steps["inputs"] == JOINT).all() else None
    yield Claim(f"{what}: ciphertext bytes per token, up and down", size, steps, limit, detail=counts)


def _error(name: str, steps: pd.DataFrame) -> Claim:
    known = steps[steps["prediction_error_percent"].notna()]
    errors = known["prediction_error_percent"].astype(float) / 100
    seconds = said(known, "{predicted_step_time_s:.4g} s predicted, {step_time_s_median:.4g} s measured")
    predicted = known.assign(basis=known["prediction_basis"])
    text = f"cost model, step of {name} under packed: error of the prediction, over the measured median step"
    return Claim(text, errors, known, MOST_ERROR, signed=True, detail=seconds, beside=(predicted,))


def _unseen(data: Data) -> Claim:
    """The error on steps through workers over a link, of which no part had been measured."""
    lines = cost_validation(data)
    lines = lines[lines["unseen"] == ALL_UNSEEN]
    errors = lines["error_percent"].astype(float) / 100
    seconds = said(
        lines, "{model}, {tokens:.0f} tokens, {network}: {predicted_step_time_s:.4g} s, {measured_step_time_s:.4g} s"
    )
    text = "cost model, step over a link, model, batch and link such as no part was measured with: error of the prediction"
    return Claim(text, errors, lines, MOST_ERROR, signed=True, detail=seconds)
