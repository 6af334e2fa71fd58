"""Tables of encrypted runs: losses and gradients beside their clear runs', and what the encryption cost."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.results.labels import ids_of, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, run_metrics, series_of, twin

STEP_COLUMNS = [
    "model",
    "dataset",
    "label",
    "activation_bits",
    "constant_rows",
    "seed",
    "step",
    "loss",
    "loss_minus_integer",
    "grad_norm",
    "grad_norm_over_integer",
    "status",
    "basis",
    "source",
    "certainty",
    "run_ids",
]
STAGE_TIMES = ("client_quantize_time_s", "encrypt_time_s", "matmul_time_s", "decrypt_time_s")
COUNTERS = [
    "remote_matmuls",
    "encrypted_matmuls",
    "remote_rows",
    "upload_ciphertext_bytes",
    "download_ciphertext_bytes",
    "public_material_bytes",
    "hint_bytes",
    "security_bits",
    "accumulator_noise_std",
    "accumulator_noise_max",
    "accumulator_noise_samples",
    "wrong_outputs",
    "checked_outputs",
    "total_time_s",
    "train_tokens",
]
PUBLISHED_STEPS = "fhe_vs_clear_5_steps"


def clear_twin(runs: pd.DataFrame, run) -> pd.Series | None:
    """The exact run beside which an encrypted one stands: `integer`, at the same bits if it has any."""
    if run["backend"] == "integer" and run["constant_rows"] != "reference":
        return run
    if run["backend"] not in ("float", "concrete_ml"):
        return twin(runs, run, "integer")
    shared = ["model", "dataset", "seed", "stage"]
    # Those with exact constant rows first.
    candidates = runs[runs["backend"] == "integer"].sort_values("constant_rows", kind="stable")
    same = candidates[(candidates[shared] == run[shared]).all(axis=1)]
    if run["backend"] == "concrete_ml":
        # Its circuits have weights of a kind that no other backend has: the activations' quantizer decides.
        activations = run["quantizer"].split("-")[0]
        same = same[same["quantizer"].str.startswith(activations) & (same["activation_bits"] == run["activation_bits"])]
    return same.iloc[0] if len(same) else None


def step_values(data: Data, run, reference: pd.Series | None) -> pd.DataFrame:
    """Loss and gradient norm of a run by step, beside those of `reference` (None: empty cells)."""
    rows = rows_of(data.convergence, run)
    frame = pd.DataFrame({m: series_of(rows, "train", m) for m in ("loss", "grad_norm")})
    other = rows_of(data.convergence, reference) if reference is not None else rows.iloc[:0]
    loss, norm = (series_of(other, "train", m).reindex(frame.index) for m in ("loss", "grad_norm"))
    frame["loss_minus_integer"] = frame["loss"] - loss
    frame["grad_norm_over_integer"] = frame["grad_norm"] / norm
    return frame.rename_axis("step").reset_index()


def encrypted_steps(data: Data) -> pd.DataFrame:
    """Loss and gradient norm at each step of each encrypted-stage run, and the distance from `integer`."""
    runs = data.runs[data.runs["stage"] == "encrypted"]
    parts = []
    for _, run in runs.iterrows():
        clear = clear_twin(runs, run)
        steps = step_values(data, run, clear)
        fixed = {c: run[c] for c in ("model", "dataset", "backend", "label", "activation_bits", "constant_rows", "seed")}
        fixed |= {"status": run["status"], "basis": run["basis"], "run_ids": ids_of(run, clear)}
        steps = steps if len(steps) else pd.DataFrame([{"step": np.nan}])
        parts.append(steps.assign(**fixed))
    if not parts:
        return pd.DataFrame(columns=[*STEP_COLUMNS, "backend"])
    table = pd.concat(parts, ignore_index=True)
    return in_order(table, ["model", "activation_bits", "seed", "step", "backend", "label"])


def published_steps(data: Data) -> pd.DataFrame:
    """The published five steps, encrypted and clear, in the columns of `encrypted_steps`."""
    rows = data.published_values
    rows = rows[(rows["item"] == PUBLISHED_STEPS) & (rows["metric"] == "train_loss")]
    clear = rows[rows["configuration"].str.endswith("clear")].set_index("step")["value"]
    table = pd.DataFrame(
        {
            "model": "Llama-3.2-1B",
            "label": "published " + rows["configuration"],
            "activation_bits": rows["configuration"].str.extract(r"^(\d+)-bit")[0].astype(float),
            # What the reference implementation does, in both of its runs.
            "constant_rows": "reference",
            "step": rows["step"],
            "loss": rows["value"],
            "loss_minus_integer": rows["value"] - rows["step"].map(clear),
            "status": "ok",
            "basis": "published",
            "source": rows["source"],
            "certainty": rows["certainty"],
            "run_ids": "",
        }
    )
    ratio = data.published_values
    ratio = ratio[(ratio["item"] == PUBLISHED_STEPS) & (ratio["metric"] == "grad_norm_ratio_to_clear_step1")]
    if len(ratio):
        first = (table["step"] == 1) & table["label"].str.endswith("FHE")
        table.loc[first, "grad_norm_over_integer"] = ratio["value"].iloc[0]
    return table.sort_values(["step", "label"])


def encrypted_vs_clear(data: Data) -> pd.DataFrame:
    """Step by step: the encrypted run beside its clear ones, then the published pair in rows of its own."""
    ours, published = encrypted_steps(data), published_steps(data)
    table = pd.concat([part for part in (ours, published) if len(part)] or [ours]).reindex(columns=STEP_COLUMNS)
    table.attrs["notes"] = [
        "All runs of one model and seed see the same batches from the same initial adapter; minus/over "
        "integer: against the exact int64 backend at the same step; published: their own clear run.",
        "grad norm is taken before clipping; the published ratio is known for step 1 only. constant rows: the published runs "
        "give a constant row the scale 1, which inflates gradients under noise; runs of ours with `reference` do the same, "
        "`exact` ones keep it what it was, so that only the former compare with the published ratio.",
    ]
    return table.reset_index(drop=True)


@once
def encrypted_runs(data: Data) -> pd.DataFrame:
    """Runs that encrypted something, or simulate it: counters, times by operation, noise over the model's.

    Without those that simulate what no backend would do: see `overflow`.
    """
    lines = []
    for _, run in data.runs[data.runs["stage"] != "overflow"].iterrows():
        rows = rows_of(data.convergence, run)
        counters = run_metrics(rows, (*COUNTERS, *STAGE_TIMES))
        if run["backend"] not in ("glwe", "glwe_simulated", "concrete_ml") and not counters["encrypted_matmuls"] > 0:
            continue
        counters["other_time_s"] = counters["total_time_s"] - pd.Series({m: counters[m] for m in STAGE_TIMES}).sum(min_count=1)
        train_time = series_of(rows, "train", "step_time_s").sum()
        counters["step_time_s_per_train_token"] = train_time / counters["train_tokens"] if train_time else np.nan
        paths = {json.loads(text)["path"] for text in rows.loc[rows["metric"] == "hybrid_path", "options"]}
        # Of runs whose every decrypted value is a sample.
        values = counters["accumulator_noise_samples"] if counters["encrypted_matmuls"] > 0 else np.nan
        counters["matmul_ms_per_value"] = 1e3 * counters["matmul_time_s"] / values
        line = dict(run) | counters | {"hybrid_path": " + ".join(sorted(paths))}
        lines.append(line | {"run_ids": ids_of(run, _simulated(data.runs, line))})
    if not lines:
        empty = pd.DataFrame(columns=[*data.runs.columns, *COUNTERS, *STAGE_TIMES])
        return empty.assign(noise_std_over_simulated=[], step_time_s_per_train_token=[], matmul_ms_per_value=[])
    runs = pd.DataFrame(lines)
    runs["noise_std_over_simulated"] = [_noise_ratio(runs, run) for _, run in runs.iterrows()]
    return runs


def _noise_ratio(runs: pd.DataFrame, run) -> float:
    """Measured accumulator noise over that of the simulated twin; NaN where there is none."""
    model = _simulated(runs, run)
    return run["accumulator_noise_std"] / model["accumulator_noise_std"] if model is not None else np.nan


def _simulated(runs: pd.DataFrame, run) -> pd.Series | None:
    """The run that simulates the noise of one that decrypted GLWE, if there is one."""
    decrypted = run["backend"] in ("glwe", "concrete_ml") and run["accumulator_noise_samples"] > 0
    return twin(runs, run, "glwe_simulated") if decrypted else None


def encryption_counters(data: Data) -> pd.DataFrame:
    """Per run: encrypted products, bytes, security, accumulator noise over the model's, and time by operation."""
    columns = [
        "stage",
        "model",
        "backend",
        "variant",
        "device",
        "activation_bits",
        "constant_rows",
        "seed",
        "steps",
    ]
    counters = [c for c in COUNTERS if c not in ("total_time_s", "train_tokens")]
    counters.insert(counters.index("accumulator_noise_samples"), "noise_std_over_simulated")
    times = [*STAGE_TIMES, "other_time_s", "total_time_s", "train_tokens", "step_time_s_per_train_token"]
    times.append("matmul_ms_per_value")
    table = encrypted_runs(data).reindex(columns=[*columns, *counters, *times, "hybrid_path", "status", "basis", "run_ids"])
    table = in_order(table, ["stage", "model", "activation_bits", "seed", "backend", "variant", "constant_rows"])
    table.attrs["notes"] = [
        "Products, bytes and times are sums over the run, evaluation included. public material: what the "
        "server needs beside ciphertexts. hints: what the client computes once from the public weights, and keeps.",
        "accumulator noise: standard deviation in units of the 27-bit integers, and over that of the "
        "glwe_simulated run with the same batches. other time: total less those four (client model, loss, optimizer).",
        "train tokens do not count padding. hybrid path: which part of the reference implementation did the remote products; "
        "wrong outputs: of the checked ones, how many its circuits got wrong by overflow (compiled for the widths seen in "
        "calibration, they wrap around without an error).",
    ]
    return table
