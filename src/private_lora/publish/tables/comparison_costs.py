"""Published times and sizes beside ours: a layer, a step, traffic; measured where we have it, else as the cost model has it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from private_lora.costs.model import APART
from private_lora.publish.tables.comparison_lines import nothing, our_side, published_line, published_rows, run_name
from private_lora.publish.tables.encryption import STAGE_TIMES, encrypted_runs
from private_lora.publish.tables.full_step import full_steps
from private_lora.publish.tables.layer import latency_summary
from private_lora.publish.tables.step_cost import TOKENS, predictions
from private_lora.results.reader import Data, shape_in


def _remote_outputs(layers: int, forward: int, backward: int, not_needed: int) -> int:
    """Output values of all remote products for one token: forward and backward widths of a layer, less those of the first
    layer's backward products that are never computed."""
    return layers * (forward + backward) - not_needed


# Llama-3.2-1B: q, o 2048; k, v 512; gate, up 8192; down 2048 outputs; backward outputs are the layer's inputs.
# GPT-2: attention 768 -> 2304 -> 768, MLP 768 -> 3072 -> 768.
REMOTE_OUTPUTS = {
    "Llama-3.2-1B": _remote_outputs(16, 3 * 2048 + 2 * 512 + 2 * 8192, 6 * 2048 + 8192, 3 * 2048),
    "GPT-2": _remote_outputs(12, 2304 + 768 + 3072 + 768, 3 * 768 + 3072, 768),
}


def _step_time(data: Data) -> Iterator[dict]:
    """Seconds per output value of the remote products of a training step: models of different size become comparable."""
    rows = published_rows(data, "latency")
    rows = rows[rows["metric"].isin(["step_time_s", "token_time_s"])]
    runs = encrypted_runs(data)
    runs = runs[(runs["backend"] == "glwe") & (runs["constant_rows"] != "reference")]
    for _, row in rows.iterrows():
        model = next((name for name in REMOTE_OUTPUTS if row["configuration"].startswith(name)), None)
        if model is None:
            continue
        tokens = 64.0 if "64 tokens" in row["configuration"] else 1.0
        how = f"per token and output value ({REMOTE_OUTPUTS[model]:,} per token published)"
        line = published_line("encrypted training step", row, how, tokens * REMOTE_OUTPUTS[model], "s")
        for _, run in runs.iterrows():
            seconds = sum(run[metric] for metric in STAGE_TIMES)
            differences = (
                f"ours: remote stages of {run['model']} on this study's {run['device']}; published: the whole "
                "step, model and hardware as named; a narrow layer costs as much per output as a wide one"
            )
            yield line | our_side(run_name(run), seconds / run["accumulator_noise_samples"], run["basis"], differences)
        if not len(runs):
            yield line | nothing("no run under glwe")


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
# Forward and backward products of one Llama-3.2-1B step, as the published configuration counts its modules.
PUBLISHED_PRODUCTS = 221.0


def _layer(data: Data) -> Iterator[dict]:
    """Time and bytes of one linear layer's stages, per row and value."""
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
        line = published_line(quantity, row, how, scale, row["unit"])
        found = _nearest_layers(summary[summary["metric"] == metric], inputs, outputs)
        for _, ours in found.iterrows():
            shape = f"{ours['rows']:.0f} rows, {ours['inputs']:.0f}x{ours['outputs']:.0f}"
            value = ours["value_median"] if over is None else ours["per_row"] / ours[over]
            setting = f"glwe on {ours['device']}, {ours['activation_bits']:.0f}-bit, {shape}"
            differences = f"ours: {shape}, this study's {ours['device']}; published: shape and hardware as named"
            yield line | our_side(setting, value, ours["basis"], differences)
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
        line = published_line("ciphertext traffic, forward and backward", row, how, PUBLISHED_PRODUCTS, "B")
        for _, run in runs.iterrows():
            total = run["upload_ciphertext_bytes"] + run["download_ciphertext_bytes"]
            differences = f"ours: layers of {run['model']}, evaluation included; published: layers of Llama-3.2-1B"
            yield line | our_side(run_name(run), total / run["remote_rows"], run["basis"], differences)
        if not len(runs):
            yield line | nothing("no run under glwe")


def _whole_steps(data: Data) -> Iterator[dict]:
    """Seconds per token of a whole training step of the published model: measured, and as the cost model has it."""
    rows = published_rows(data, "latency")
    for _, row in rows[rows["metric"].isin(["step_time_s", "token_time_s"])].iterrows():
        tokens = 64.0 if "64 tokens" in row["configuration"] else 1.0
        line = published_line("whole encrypted training step", row, "per token of the batch", tokens, "s")
        yield from _beside(data, row, line, ("step_time_s_median",), ("client_time_s", "server_time_s"), "tokens")


def _whole_traffic(data: Data) -> Iterator[dict]:
    """Ciphertext bytes both ways per token of a whole training step of the published model."""
    sizes = ("upload_bytes_per_token", "download_bytes_per_token")
    for _, row in published_rows(data, "size", "traffic_bytes").iterrows():
        line = published_line("ciphertext traffic of a whole training step", row, "per token of the batch", 1.0, "B")
        yield from _beside(data, row, line, sizes, sizes, None)


def _beside(data: Data, row, line: dict, measured: tuple, predicted: tuple, over: str | None) -> Iterator[dict]:
    """The published line beside each measured encrypted step of its model, and each prediction, glwe's among them.

    measured, predicted: columns that are added up. over: the column that the sum is divided by, if any.
    """
    model = next((name for name in REMOTE_OUTPUTS if row["configuration"].startswith(name)), None)
    steps, lines = full_steps(data), _compared(data)
    steps = steps[(steps["encrypted_matmuls"] > 0) & (steps["blocks"] == steps["model_blocks"])]
    found = [(step, measured, step["model"]) for _, step in steps[steps["architecture"] == model].iterrows()]
    found += [(cost, predicted, cost["model"]) for _, cost in lines[lines["model"] == model].iterrows()]
    for ours, columns, name in found:
        value = sum(ours[column] for column in columns) / (ours[over] if over else 1.0)
        scheme = " ".join(part for part in (ours["backend"], ours.get("options", ours.get("variant", ""))) if part)
        setting = f"{name}, {scheme}, {ours['bits']} bits, {ours['tokens']:.0f} tokens, layers {ours['inputs']}"
        differences = f"ours: {_where(ours)}, client and server without a network; published: machine and software as named"
        yield line | our_side(setting, value, ours["basis"], differences)
    if not found:
        yield line | nothing("no full step of this model was measured, nor its parts")


def _compared(data: Data) -> pd.DataFrame:
    """Predictions of the encrypting schemes at one batch, with one worker; glwe with layers apart, as published."""
    lines = predictions(data)
    lines = lines[(lines["tokens"] == TOKENS) & (lines["workers"] == 1)]
    return lines[(lines["backend"] != "glwe") | (lines["inputs"] == APART)].drop_duplicates(
        ["model", "backend", "options", "device", "machine", "bits", "inputs"]
    )


def _where(ours) -> str:
    return " on ".join(part for part in (ours["device"], ours["machine"]) if part)


COST_PARTS = (_step_time, _whole_steps, _layer, _traffic, _whole_traffic)
