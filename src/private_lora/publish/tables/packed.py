"""Table of the packed stage: encrypted runs of hundreds of products, step for step beside the exact integers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.results.labels import ids_of, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import bf16_run, float_run, rows_of, run_metrics, series_of

COUNTERS = ("encrypted_matmuls", "train_tokens", "security_bits", "largest_ring_size", "largest_log2_q", "largest_failure_log2")
STAGES = ("client_quantize_time_s", "encrypt_time_s", "matmul_time_s", "decrypt_time_s")
ROWS = ("remote_rows", "remote_matmuls")
BYTES = ("upload_ciphertext_bytes", "download_ciphertext_bytes")
COLUMNS = [
    "model",
    "label",
    "activation_bits",
    "seed",
    "steps",
    "remote_matmuls",
    "remote_rows",
    "train_tokens",
    "encrypted_matmuls",
    "security_bits",
    "largest_ring_size",
    "largest_log2_q",
    "largest_failure_log2",
    "final_loss",
    "last_train_loss",
    "steps_equal_to_integer",
    "largest_step_difference",
    "accumulator_noise_std",
    "noise_std_over_simulated",
    "train_time_s",
    "step_time_over_float32",
    "step_time_over_integer",
    "step_time_over_bf16",
    *STAGES,
    "upload_bytes_per_row",
    "download_bytes_per_row",
    "status",
    "basis",
    "run_ids",
]


@once
def packed_runs(data: Data) -> pd.DataFrame:
    """One line per run of the packed stage, with its distance from the `integer` run of the same batches."""
    runs = data.runs[data.runs["stage"] == "packed"]
    lines = [_line(data, runs, run) for _, run in runs.iterrows()]
    if not lines:
        return pd.DataFrame(columns=[*COLUMNS, "backend", "variant"])
    table = pd.DataFrame(lines)
    simulated = [_simulated(table, line) for _, line in table.iterrows()]
    predicted = [np.nan if other is None else other["accumulator_noise_std"] for other in simulated]
    table["noise_std_over_simulated"] = table["accumulator_noise_std"] / predicted
    names = [None if other is None else other["run_id"] for other in simulated]
    table["run_ids"] = [ids_of(*pair) for pair in zip(table["run_ids"], names, strict=True)]
    return in_order(table, ["model", "steps", "activation_bits", "seed", "backend", "variant"])


def _line(data: Data, runs: pd.DataFrame, run) -> dict:
    rows = rows_of(data.convergence, run)
    counted = run_metrics(rows, (*COUNTERS, *STAGES, *ROWS, "accumulator_noise_std", "train_time_s", *BYTES))
    line = dict(run) | counted
    for name in BYTES:
        line[name.replace("ciphertext_bytes", "bytes_per_row")] = counted[name] / line["remote_rows"]
    losses = series_of(rows, "train", "loss")
    line["last_train_loss"] = losses.iloc[-1] if len(losses) else np.nan
    reference, plain, halved = exact_twin(runs, run), float_run(runs, run), bf16_run(runs, run)
    plain = None if plain is not None and plain["run_id"] == run["run_id"] else plain
    for name, other in (("float32", plain), ("integer", reference), ("bf16", halved)):
        line[f"step_time_over_{name}"] = _step_time_over(data, run, other)
    line["run_ids"] = ids_of(run, reference, plain, halved)
    if reference is not None:
        difference = (losses - series_of(rows_of(data.convergence, reference), "train", "loss")).dropna()
        line["steps_equal_to_integer"] = int((difference == 0).sum())
        line["largest_step_difference"] = difference.abs().max()
    return line


def _step_time_over(data: Data, run, other) -> float:
    """The run's median step over another's; NaN without another."""
    if other is None:
        return np.nan
    mine, theirs = (series_of(rows_of(data.convergence, one), "train", "step_time_s").median() for one in (run, other))
    return mine / theirs


def exact_twin(runs: pd.DataFrame, run) -> pd.Series | None:
    """The `integer` run of the same model, data, seed, quantizers, bits and number of steps, or None."""
    if run["backend"] in ("integer", "float"):
        return None
    same = ["model", "dataset", "seed", "quantizer", "activation_bits", "weight_bits", "steps"]
    found = runs[(runs["backend"] == "integer") & (runs[same] == run[same]).all(axis=1)]
    return found.iloc[0] if len(found) else None


def _simulated(table: pd.DataFrame, line) -> pd.Series | None:
    """The run that simulates an approximate one's noise, if there is one."""
    if line["backend"] != "packed_approx":
        return None
    same = ["model", "seed", "activation_bits", "weight_bits", "steps", "variant"]
    found = table[(table["backend"] == "packed_simulated") & (table[same] == line[same]).all(axis=1)]
    return found.iloc[0] if len(found) else None


def packed_training(data: Data) -> pd.DataFrame:
    """Per run of the packed stage: products, security, losses beside `integer`, noise beside its prediction, time and bytes."""
    table = packed_runs(data).reindex(columns=COLUMNS)
    table.attrs["notes"] = [
        "steps equal to integer: training steps whose loss is the same float as the integer run's; largest step difference: of "
        "their losses, in nats. Both runs see the same batches from the same initial adapter.",
        "failure log2: of the probability that one decrypted value is wrong, of the worst layer (exact mode). Ring size and "
        "log2 Q: of the layer with the largest.",
        "accumulator noise: std of decrypted minus exact integers over the run; over simulated: over that of packed_simulated "
        "with the same modulus. Times and bytes are sums over the run, evaluation included, divided by rows where it says so.",
        "remote matmuls: calls to the server over the whole run, evaluation included; remote rows: rows of activations and "
        "gradients over all of them, padding included; train tokens: without.",
        "step time over float32, integer, bf16: of the median steps, of runs with the same batches and as many steps; integer "
        "multiplies the same integers (int8 at 8 bits); empty where it was not measured.",
    ]
    return table
