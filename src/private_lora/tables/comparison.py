"""Table of published numbers beside ours: same normalisation, with source, certainty and differences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from private_lora.publish_data import Data, shape_in
from private_lora.publish_runs import OK, rows_of, series_of, twin
from private_lora.tables.convergence import final_runs, mean_of_finite
from private_lora.tables.encryption import PUBLISHED_STEPS, STAGE_TIMES, encrypted_runs
from private_lora.tables.latency import latency_summary

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
    "published_basis",
    "basis",
]
CONVERGENCE_STUDY = "Llama-3.2-1B on orca-math, 2,500 steps of 4 x 128 tokens, one seed"
FIVE_STEPS = "Llama-3.2-1B at 7 bits, 5 steps, batch 1 x 64 tokens; padding counted"


def published_comparison(data: Data) -> pd.DataFrame:
    """Each published number that can stand beside one of ours: published, ours, ratio, and what differs.

    A published number without a counterpart in the data keeps its row, with ours empty.
    """
    lines = []
    for part in (_convergence, _perplexity, _five_steps, _step_time, _layer, _traffic, _noise):
        lines += list(part(data))
    table = pd.DataFrame(lines).reindex(columns=COLUMNS)
    table["ratio_ours_to_published"] = table["ours"].astype(float) / table["published"].astype(float)
    table.attrs["notes"] = [
        "published: a number read in the paper's code, documentation or stored notebook outputs, with its "
        "certainty; ours: this study, with its basis. Both were normalised in the same way.",
        "An empty cell under ours: this study has no such run.",
    ]
    return table


def _published(data: Data, item: str, metric: str | None = None) -> pd.DataFrame:
    rows = data.published_values
    rows = rows[(rows["item"] == item) & rows["step"].isna()]
    return rows if metric is None else rows[rows["metric"] == metric]


def _line(quantity: str, row, normalisation: str, scale: float = 1.0, unit: str = "") -> dict:
    """The published half of a line: its value divided by `scale`."""
    return {
        "quantity": quantity,
        "published_setting": row["configuration"],
        "published": row["value"] / scale,
        "normalisation": normalisation,
        "unit": unit,
        "certainty": row["certainty"],
        "source": row["source"],
        "published_basis": "published",
    }


def _ours(setting: str, value: float, basis: str, differences: str) -> dict:
    return {"our_setting": setting, "ours": value, "basis": basis, "differences": differences}


NOTHING = {"our_setting": "", "ours": np.nan, "basis": "", "differences": ""}


def _convergence(data: Data) -> Iterator[dict]:
    """Final running-mean training loss over that of the same study's float run."""
    published = _published(data, "convergence", "final_running_mean_train_loss")
    runs = final_runs(data)
    runs = runs[(runs["stage"] == "sweep") & (runs["status"] == OK)]
    floats = published.loc[published["configuration"] == "FP32", "value"]
    for _, row in published.iterrows():
        is_float = row["configuration"] == "FP32"
        scale, how = (1.0, "none") if is_float else (floats.iloc[0], "over FP32's in the same study, last step")
        line = _line("final running-mean training loss", row, how, scale)
        bits, _, pair = row["configuration"].partition("-bit ")
        found = runs[runs["quantizer"] == (pair or "float")]
        found = found if is_float else found[found["activation_bits"] == float(bits)]
        for (model, dataset, basis), group in found.groupby(["model", "dataset", "basis"]):
            values = [run["running_mean"] / (1 if is_float else _float_mean(data, run)) for _, run in group.iterrows()]
            setting = f"{model}, {dataset}, mean of {len(group)} seeds"
            differences = (
                f"ours: {model} on {dataset}, {group['steps'].max():.0f} steps, padding not counted; "
                f"published: {CONVERGENCE_STUDY}, in the clear"
            )
            yield line | _ours(setting, mean_of_finite(pd.Series(values)), basis, differences)
        if not len(found):
            yield line | NOTHING


def _float_mean(data: Data, run) -> float:
    partner = twin(data.runs, run, "float")
    comparable = partner is not None and partner["stage"] == run["stage"] and partner["steps"] == run["steps"]
    return partner["running_mean"] if comparable else np.nan


def _perplexity(data: Data) -> Iterator[dict]:
    """Test perplexity at the end over that before training, at 7 bits."""
    rows = _published(data, "llama_7bit_epoch").set_index("metric")
    if not {"test_perplexity_before", "test_perplexity_after"} <= set(rows.index):
        return
    before = rows.loc["test_perplexity_before", "value"]
    line = _line(
        "test perplexity after training",
        rows.loc["test_perplexity_after"],
        "over that before training",
        before,
    )
    runs = data.runs
    runs = runs[(runs["quantizer"] == "DTok-SC") & (runs["activation_bits"] == 7) & (runs["status"] == OK)]
    runs = runs[(runs["stage"] != "encrypted") & (runs["constant_rows"] != "reference")]
    for _, run in runs[runs["perplexity"].notna()].iterrows():
        first = series_of(rows_of(data.convergence, run), "eval", "perplexity").get(0, np.nan)
        differences = (
            f"ours: {run['model']} on {run['dataset']}, {run['steps']:.0f} steps, padding not counted; "
            "published: Llama-3.2-1B, padding counted, so that most of the drop is learning to end the text"
        )
        yield line | _ours(_name(run), run["perplexity"] / first, run["basis"], differences)
    if not runs["perplexity"].notna().any():
        yield line | NOTHING


def _name(run) -> str:
    precision = f"{run['activation_bits']:.0f}-bit {run['quantizer']}"
    return f"{run['model']}, {run['label']}, {precision}, seed {run['seed']:.0f}"


def _five_steps(data: Data) -> Iterator[dict]:
    """Encrypted over clear in the first five steps: mean loss, and the gradient norm of step 1."""
    runs = data.runs
    glwe = runs[(runs["backend"] == "glwe") & (runs["stage"] == "encrypted")]
    means = _published(data, PUBLISHED_STEPS, "mean_train_loss").set_index("configuration", drop=False)
    if {"7-bit FHE", "7-bit clear"} <= set(means.index):
        row, clear = means.loc["7-bit FHE"], means.loc["7-bit clear", "value"]
        line = _line("mean training loss, first 5 steps", row, "encrypted / clear", clear)
        yield from _against_integer(data, glwe, line, "loss", 5)
    for _, row in _published(data, PUBLISHED_STEPS, "grad_norm_ratio_to_clear_step1").iterrows():
        line = _line("gradient norm, step 1", row, "encrypted / clear")
        yield from _against_integer(data, glwe, line, "grad_norm", 1)


def _against_integer(data: Data, glwe: pd.DataFrame, line: dict, metric: str, steps: int) -> Iterator[dict]:
    for _, run in glwe.iterrows():
        clear = twin(data.runs, run, "integer")
        if clear is None:
            continue
        ours, exact = (series_of(rows_of(data.convergence, r), "train", metric) for r in (run, clear))
        common = ours.index.intersection(exact.index)[:steps]
        differences = (
            f"ours: {run['model']} on {run['dataset']}, {run['activation_bits']:.0f} bits, "
            f"step 1 to {len(common)}, "
            f"constant rows {run['constant_rows']}, clear = exact integers; published: {FIVE_STEPS}, "
            "constant rows get scale 1"
        )
        yield line | _ours(_name(run), ours[common].mean() / exact[common].mean(), run["basis"], differences)
    if not len(glwe):
        yield line | NOTHING


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
    rows = _published(data, "latency")
    rows = rows[rows["metric"].isin(["step_time_s", "token_time_s"])]
    runs = encrypted_runs(data)
    runs = runs[(runs["backend"] == "glwe") & (runs["constant_rows"] != "reference")]
    for _, row in rows.iterrows():
        model = next((name for name in REMOTE_OUTPUTS if row["configuration"].startswith(name)), None)
        if model is None:
            continue
        tokens = 64.0 if "64 tokens" in row["configuration"] else 1.0
        how = f"per token and output value ({REMOTE_OUTPUTS[model]:,} per token published)"
        line = _line("encrypted training step", row, how, tokens * REMOTE_OUTPUTS[model], "s")
        for _, run in runs.iterrows():
            seconds = sum(run[metric] for metric in STAGE_TIMES)
            differences = (
                f"ours: remote stages of {run['model']} on this study's {run['device']}; published: the whole "
                "step, model and hardware as named; a narrow layer costs as much per output as a wide one"
            )
            yield line | _ours(_name(run), seconds / run["accumulator_noise_samples"], run["basis"], differences)
        if not len(runs):
            yield line | NOTHING


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
        line = _line(quantity, row, how, scale, row["unit"])
        found = _nearest_layers(summary[summary["metric"] == metric], inputs, outputs)
        for _, ours in found.iterrows():
            shape = f"{ours['rows']:.0f} rows, {ours['inputs']:.0f}x{ours['outputs']:.0f}"
            value = ours["value_median"] if over is None else ours["per_row"] / ours[over]
            setting = f"glwe on {ours['device']}, {ours['activation_bits']:.0f}-bit, {shape}"
            differences = f"ours: {shape}, this study's {ours['device']}; published: shape and hardware as named"
            yield line | _ours(setting, value, ours["basis"], differences)
        if not len(found):
            yield line | NOTHING


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
    for _, row in _published(data, "size", "traffic_bytes").iterrows():
        how = f"per row and remote product ({PUBLISHED_PRODUCTS:.0f} per token published)"
        line = _line("ciphertext traffic, forward and backward", row, how, PUBLISHED_PRODUCTS, "B")
        for _, run in runs.iterrows():
            total = run["upload_ciphertext_bytes"] + run["download_ciphertext_bytes"]
            differences = f"ours: layers of {run['model']}, evaluation included; published: layers of Llama-3.2-1B"
            yield line | _ours(_name(run), total / run["remote_rows"], run["basis"], differences)
        if not len(runs):
            yield line | NOTHING


def _noise(data: Data) -> Iterator[dict]:
    """Standard deviation of the noise on the 27-bit accumulator."""
    runs = encrypted_runs(data)
    runs = runs[runs["backend"].isin(["glwe", "glwe_simulated"]) & runs["accumulator_noise_std"].notna()]
    for _, row in _published(data, "noise", "noise_std").iterrows():
        line = _line("accumulator noise, standard deviation", row, "none", 1.0, row["unit"])
        for _, run in runs.iterrows():
            yield line | _ours(_name(run), run["accumulator_noise_std"], run["basis"], f"ours: layers of {run['model']}")
        if not len(runs):
            yield line | NOTHING
