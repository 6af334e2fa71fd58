"""Published times and sizes beside ours: a layer, a step, traffic; measured where we have it, else as the cost model has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from private_lora.costs.inputs import SCHEME
from private_lora.costs.model import APART, products_of
from private_lora.models.shapes import architecture_of
from private_lora.publish.tables.comparison_lines import nothing, our_side, published_line, published_rows, run_name
from private_lora.publish.tables.encryption import STAGE_TIMES, encrypted_runs
from private_lora.publish.tables.full_step import full_steps
from private_lora.publish.tables.layer import latency_summary
from private_lora.publish.tables.step_cost import predictions, step_tokens
from private_lora.results.labels import CALLS
from private_lora.results.reader import Data, shape_in
from private_lora.specs.models import ARCHITECTURES

# Forward and backward products of one Llama-3.2-1B step, as the published configuration counts its modules.
PUBLISHED_PRODUCTS = 221.0
GENERATION = "generation of a token, forward only, and no training step: no text of GPT-2 was generated here"


def _published_model(row) -> str | None:
    """The model that a published configuration names first, if its shapes are known."""
    return next((name for name in ARCHITECTURES if row["configuration"].startswith(name)), None)


def _remote_outputs(model: str) -> int:
    """Output values of all remote products for one token of a training step, forward and backward."""
    architecture = architecture_of(model)
    return sum(product.times * product.outputs for product in products_of(architecture, APART, architecture.blocks))


def _published_steps(data: Data) -> Iterator[tuple[pd.Series, str, float]]:
    """Published times of whole training steps, with their model and tokens."""
    for _, row in published_rows(data, "latency", "step_time_s").iterrows():
        tokens = re.search(r"(\d+) tokens", row["configuration"])
        if (model := _published_model(row)) is not None and tokens:
            yield row, model, float(tokens[1])


def _generation(data: Data) -> Iterator[dict]:
    """Published times of a generated token, beside which nothing of ours stands."""
    for _, row in published_rows(data, "latency", "token_time_s").iterrows():
        yield published_line("encrypted generation of a token", row, "none", 1.0, "s", tokens=1.0) | nothing(GENERATION)


def _step_time(data: Data) -> Iterator[dict]:
    """Seconds per output value of the remote products of a training step: models of different size become comparable."""
    runs = encrypted_runs(data)
    runs = runs[(runs["backend"] == "glwe") & (runs["constant_rows"] != "reference")]
    for row, model, tokens in _published_steps(data):
        outputs = _remote_outputs(model)
        how = f"per token and output value ({outputs:,} per token published)"
        line = published_line("encrypted training step", row, how, tokens * outputs, "s", tokens)
        for _, run in runs.iterrows():
            seconds = sum(run[metric] for metric in STAGE_TIMES)
            differences = (
                f"ours: remote operations of {run['model']} on this study's {run['device']}; published: the whole "
                "step, model and hardware as named; a narrow layer costs as much per output as a wide one"
            )
            value = seconds / run["accumulator_noise_samples"]
            yield line | our_side(run_name(run), value, run, differences, _rows_a_call(run))
        if not len(runs):
            yield line | nothing("no run under glwe")


def _rows_a_call(run) -> float:
    """Rows of a remote product, padding included: the tokens of the run's batches."""
    return run["remote_rows"] / run["remote_matmuls"]


LAYER_VALUES = {
    # published metric -> (quantity, our metric, normalisation, values over which both sides are divided)
    "matmul_time_s": (
        "server time of one linear layer",
        "matmul_time_s",
        "per row and output value",
        "outputs",
    ),
    "encrypt_time_s": ("client encryption time", "encrypt_time_s", "per row and input value", "inputs"),
    "decrypt_time_s": ("client decryption time", "decrypt_time_s", "per row and output value", "outputs"),
    "input ciphertext": ("input ciphertext", "upload_ciphertext_bytes", "per row and input value", "inputs"),
    "output ciphertext": (
        "output ciphertext",
        "download_ciphertext_bytes",
        "per row and output value",
        "outputs",
    ),
    "key_bytes": ("key material on the server", "public_material_bytes", "none", None),
}
DEFAULT_WIDTH = 2048.0


def _layer(data: Data) -> Iterator[dict]:
    """Time and bytes of one linear layer, per row and value."""
    summary = latency_summary(data)
    summary = summary[(summary["backend"] == "glwe") & (summary["n_ok"] > 0)]
    rows = data.published_values
    for _, row in rows[rows["item"].isin(["latency", "size"])].iterrows():
        kind = next((k for k in LAYER_VALUES if k == row["metric"] or row["configuration"].startswith(k)), None)
        if kind is None:
            continue
        quantity, metric, how, over = LAYER_VALUES[kind]
        n_rows, inputs, outputs = shape_in(row["configuration"])
        width = {"inputs": inputs, "outputs": outputs}.get(over, 1.0)
        # Sizes and client times are published for rows of 2,048 values, one chunk of the scheme.
        scale = 1.0 if over is None else (1.0 if np.isnan(n_rows) else n_rows) * (DEFAULT_WIDTH if np.isnan(width) else width)
        line = published_line(quantity, row, how, scale, row["unit"], 1.0 if np.isnan(n_rows) and over else n_rows)
        found = _nearest_layers(summary[summary["metric"] == metric], inputs, outputs)
        for _, ours in found.iterrows():
            shape = f"{ours['rows']:.0f} rows, {ours['inputs']:.0f}x{ours['outputs']:.0f}"
            value = ours["value_median"] if over is None else ours["per_row"] / ours[over]
            setting = f"glwe on {ours['device']}, {ours['activation_bits']:.0f}-bit, {shape}"
            differences = f"ours: {shape}, this study's {ours['device']}; published: shape and hardware as named"
            yield line | our_side(setting, value, ours, differences, ours["rows"])
        if not len(found):
            yield line | nothing("no such layer was measured under glwe")


def _nearest_layers(layers: pd.DataFrame, inputs: float, outputs: float) -> pd.DataFrame:
    """On each device the measured layer closest in shape to the published one (2,048 x 2,048 if unnamed)."""
    wanted = [DEFAULT_WIDTH if np.isnan(v) else v for v in (inputs, outputs)]
    distance = np.abs(np.log(layers["inputs"] / wanted[0])) + np.abs(np.log(layers["outputs"] / wanted[1]))
    ranked = layers.assign(distance=distance).sort_values(["distance", "rows"], ascending=[True, False])
    return ranked.drop_duplicates("device")


def _traffic(data: Data) -> Iterator[dict]:
    """Ciphertext bytes both ways per row of a remote product."""
    runs = encrypted_runs(data)
    runs = runs[(runs["backend"] == "glwe") & (runs["constant_rows"] != "reference")]
    for _, row in published_rows(data, "size", "traffic_bytes").iterrows():
        how = f"per row and remote product ({PUBLISHED_PRODUCTS:.0f} per token published)"
        line = published_line("ciphertext traffic, forward and backward", row, how, PUBLISHED_PRODUCTS, "B", 1.0)
        for _, run in runs.iterrows():
            total = run["upload_ciphertext_bytes"] + run["download_ciphertext_bytes"]
            differences = f"ours: layers of {run['model']}, evaluation included; published: layers of Llama-3.2-1B"
            yield line | our_side(run_name(run), total / run["remote_rows"], run, differences, _rows_a_call(run))
        if not len(runs):
            yield line | nothing("no run under glwe")


def _whole_steps(data: Data) -> Iterator[dict]:
    """Seconds per token of a whole training step of the published model: measured, and as the cost model has it.

    Ours at the tokens nearest to the published ones beside the published number, and ours at the tokens we measured at beside
    what the published one comes to there: glwe's cost is a sum over rows, so that a token costs the same in a larger batch.
    """
    for row, model, tokens in _published_steps(data):
        how = "per token of the batch"
        line = published_line("whole encrypted training step", row, how, tokens, "s", tokens)
        for ours in _ours(data, model, tokens):
            beside = line
            if ours.tokens >= _step_tokens(data):
                beside = line | {"tokens_published": ours.tokens, "published_basis": "extrapolated"}
                scaled = f"published step of {tokens:.0f} tokens x {ours.tokens / tokens:g} (one row after the other)"
                beside["normalisation"] = f"{how}; {scaled}"
            yield beside | ours.side(ours.seconds / ours.tokens)
        if not _ours(data, model, tokens):
            yield line | nothing(NO_STEP)


def _whole_traffic(data: Data) -> Iterator[dict]:
    """Ciphertext bytes both ways per token of a whole training step of the published model."""
    for _, row in published_rows(data, "size", "traffic_bytes").iterrows():
        line = published_line("ciphertext traffic of a whole training step", row, "per token of the batch", 1.0, "B", 1.0)
        line["published_setting"] += f", {PUBLISHED_PRODUCTS:.0f} remote calls"
        found = _ours(data, _published_model(row), 1.0)
        for ours in found:
            yield line | ours.side(ours.bytes_per_token)
        if not found:
            yield line | nothing(NO_STEP)


NO_STEP = "no full step of this model was measured, nor its parts"


@dataclass(frozen=True)
class OurStep:
    """A whole encrypted step of ours: measured, or as the cost model has it. scheme: backend and options."""

    line: pd.Series
    scheme: str
    tokens: float
    seconds: float
    bytes_per_token: float
    calls: float

    def side(self, value: float) -> dict:
        """Our half of a line of the table."""
        line = self.line
        setting = f"{line['model']}, {self.scheme}, {line['bits']} bits, {CALLS[line['inputs']]}: {self.calls:.0f} remote calls"
        where = " on ".join(part for part in (line["device"], line["machine"]) if part)
        differences = f"ours: {where}, client and server without a network; published: machine and software as named"
        if line["inputs"] == APART:
            return our_side(setting, value, line, differences, self.tokens)
        differences += f", {CALLS[APART]}: no ratio, because the calls are not the same"
        return our_side(setting, value, line, differences, self.tokens) | {"other_calls": True}


def _ours(data: Data, model: str | None, tokens: float) -> list[OurStep]:
    """The measured encrypted steps of a model, then the predicted ones: of each scheme at the nearest tokens, and at ours."""
    steps = full_steps(data)
    steps = steps[(steps["encrypted_matmuls"] > 0) & (steps["blocks"] == steps["model_blocks"])]
    found = [_measured(step) for _, step in steps[steps["architecture"] == model].iterrows()]
    lines = _compared(data)
    lines = lines[lines["model"] == model]
    distance = np.log(lines["tokens"] / tokens).abs()
    nearest = distance.groupby([lines[name] for name in SCHEME]).transform("min") == distance
    return found + [_predicted(line) for _, line in lines[nearest | (lines["tokens"] == _step_tokens(data))].iterrows()]


def _scheme(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _measured(step) -> OurStep:
    size = step["upload_bytes_per_token"] + step["download_bytes_per_token"]
    scheme = _scheme(step["backend"], step["variant"])
    return OurStep(step, scheme, step["tokens"], step["step_time_s_median"], size, step["remote_calls_per_step"])


def _predicted(line) -> OurStep:
    size = line["upload_bytes_per_token"] + line["download_bytes_per_token"]
    seconds = line["client_time_s"] + line["server_time_s"]
    return OurStep(line, _scheme(line["backend"], line["options"]), line["tokens"], seconds, size, line["round_trips"])


def _step_tokens(data: Data) -> float:
    return step_tokens(data.costs)


def _compared(data: Data) -> pd.DataFrame:
    """Predictions of the encrypting schemes with one worker; glwe with each layer a call, as published."""
    lines = predictions(data)
    lines = lines[lines["workers"] == 1]
    return lines[(lines["backend"] != "glwe") | (lines["inputs"] == APART)].drop_duplicates(
        ["model", "backend", "options", "device", "machine", "bits", "inputs", "tokens"]
    )


COST_PARTS = (_step_time, _whole_steps, _generation, _layer, _traffic, _whole_traffic)
