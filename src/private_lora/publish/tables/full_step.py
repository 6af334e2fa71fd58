"""Table of the measured full steps: time by operation, memory, bytes and loss, beside the exact integers and the cost model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.costs.inputs import STAGES, full_size_runs, warm
from private_lora.costs.model import SIZES, VALIDATION
from private_lora.publish.shared import once
from private_lora.results.labels import CALLS_NOTE, ids_of, in_order
from private_lora.results.reader import Data
from private_lora.results.schema import options_text

# Step times are compared with those of the same step under a backend, with its options, that encrypts nothing.
CLEAR = {
    "float32": ("float", {}),
    "float32_onednn": ("float", {"library": "onednn"}),
    "integer": ("integer", {}),
    "bf16": ("float", {"dtype": "bfloat16"}),
}
RATIOS = {f"step_time_over_{name}": name for name in CLEAR}
COLUMNS = [
    "model",
    "backend",
    "variant",
    "bits",
    "machine",
    "device",
    "blocks",
    "model_blocks",
    "tokens",
    "inputs",
    "recompute",
    "lora_rank",
    "steps",
    "warm_steps",
    "step_times_s",
    "step_time_s_median",
    "step_time_s_min",
    "step_time_s_max",
    "quantize_s",
    "encrypt_s",
    "server_s",
    "decrypt_s",
    "offline_s",
    "rest_s",
    *RATIOS,
    "peak_memory_bytes",
    "hint_bytes",
    "hint_time_s",
    "upload_bytes_per_token",
    "download_bytes_per_token",
    "total_bytes_per_token",
    "remote_calls_per_step",
    "encrypted_matmuls",
    "security_bits",
    "last_loss",
    "steps_equal_to_integer",
    "predicted_step_time_s",
    "prediction_error_percent",
    "prediction_basis",
    "prediction_formula",
    "status",
    "basis",
    "run_ids",
]
STAGE_NAMES = dict(zip(STAGES, ("quantize_s", "encrypt_s", "server_s", "decrypt_s"), strict=True))
SAME = ["model", "label", "device", "machine", "seed", "blocks", "step_tokens", "inputs", "recompute", "lora_rank", "steps"]


@once
def full_steps(data: Data) -> pd.DataFrame:
    """One line per run of the stage full_size, seconds of each operation per step; `run_id`, `step_times` (a tuple)."""
    runs = full_size_runs(data.convergence)
    predictions = data.costs[data.costs["kind"] == VALIDATION]
    lines = [_line(run, runs, predictions) for _, run in runs.iterrows()]
    table = pd.DataFrame(lines, columns=[*COLUMNS, "run_id", "step_times", "options", "architecture"])
    return in_order(table, ["architecture", "tokens", "model_blocks", "blocks", "backend", "variant"])


def _line(run, runs: pd.DataFrame, predictions: pd.DataFrame) -> dict:
    line = {name: run[name] for name in (*COLUMNS, "run_id", "step_times", "options") if name in run}
    line |= {"architecture": run["model"], "model": run["label"], "tokens": run["step_tokens"]}
    times = pd.Series(run["step_times"], dtype=float)
    line["warm_steps"] = len(warm(run["step_times"]))
    line |= {f"step_time_s_{kind}": getattr(times, kind)() for kind in ("min", "max")}
    line["step_time_s_median"] = run["warm_step_time_s"]
    line["step_times_s"] = ", ".join(f"{seconds:.4g}" for seconds in times)
    line |= {name: run[metric] / run["steps"] if run["steps"] else np.nan for metric, name in STAGE_NAMES.items()}
    # A backend that does not quantize has no time of it, and its products are all it does elsewhere.
    line["rest_s"] = times.mean() - np.nansum([line[name] for name in STAGE_NAMES.values()])
    trained = run["steps"] * run["step_tokens"]
    up, down = (run[size] / trained if run["encrypted_matmuls"] else np.nan for size in SIZES)
    line |= {"upload_bytes_per_token": up, "download_bytes_per_token": down, "total_bytes_per_token": up + down}
    line["offline_s"] = run["offline_time_s"] / run["steps"] if run["steps"] else np.nan
    line["last_loss"] = run["losses"][-1] if run["losses"] else np.nan
    line["remote_calls_per_step"] = run["remote_matmuls"] / run["steps"] if run["steps"] else np.nan
    clear = {name: clear_twin(run, runs, *how) for name, how in CLEAR.items()}
    line |= {ratio: _over(run["warm_step_time_s"], clear[name]) for ratio, name in RATIOS.items()}
    line["steps_equal_to_integer"] = _equal_steps(run, clear["integer"])
    predicted = _predicted(run, predictions)
    return line | _prediction(predicted) | {"run_ids": ids_of(run, *clear.values(), predicted)}


def clear_twin(run, runs: pd.DataFrame, backend: str, options: dict) -> pd.Series | None:
    """The same step under a backend that encrypts nothing: same model, batches, arrangement and machine; None without one.

    A run that encrypts nothing has none but the others that do not either.
    """
    found = runs[(runs["backend"] == backend) & (runs["options"] == options_text(options))]
    found = found[(found[SAME] == run[SAME]).all(axis=1) & (found["run_id"] != run["run_id"])]
    found = found[(found["bits"] == run["bits"]) | (found["bits"] == "") | (run["bits"] == "")]
    return found.iloc[0] if len(found) else None


def _over(seconds: float, other: pd.Series | None) -> float:
    return np.nan if other is None else seconds / other["warm_step_time_s"]


def _equal_steps(run, integer: pd.Series | None) -> float:
    """Steps whose loss is the very number of the integer run's on the same machine; NaN without such a twin."""
    if run["backend"] == "float" or integer is None:
        return np.nan
    return float(sum(a == b for a, b in zip(run["losses"], integer["losses"], strict=True)))


def _predicted(run, predictions: pd.DataFrame) -> pd.Series | None:
    """The cost model's line for this very run."""
    found = predictions[(predictions["run_id"] == run["run_id"]) & (predictions["machine"] == run["machine"])]
    return found.iloc[0] if len(found) else None


def _prediction(predicted: pd.Series | None) -> dict:
    if predicted is None:
        return {}
    known = {"prediction_formula": predicted["formula"], "predicted_step_time_s": predicted["step_time_s"]}
    known["prediction_basis"] = "extrapolated" if np.isfinite(predicted["step_time_s"]) else ""
    return known | {"prediction_error_percent": 100 * predicted["relative_error"]}


def full_step(data: Data) -> pd.DataFrame:
    """Per run of the stage full_size: step times, operations, memory, bytes, loss beside `integer`, and what was predicted."""
    table = full_steps(data)[COLUMNS]
    table.attrs["notes"] = [
        "Random tokens, and random weights where the model says so: a measurement of cost, not of learning. blocks: "
        f"transformer blocks of this run, of the model's. {CALLS_NOTE} "
        "remote calls per step: how many that makes, on which the bytes a token depend. "
        "recompute 1: activations of a block are computed again in backward.",
        "step times: of every step; warm steps: those behind the median, all but the first where two or more follow. Every run "
        "is a process of its own, one after the other, so that a machine that slows down during one of them is not seen in its "
        "ratios; those of `block_latency` take turns in one process. quantize, encrypt, server, decrypt: "
        "mean seconds per step in these; rest: everything else, all of it at the client. offline: what of encryption and "
        "decryption needs no data, and can be done beforehand. Client and server are one process on one machine.",
        "hints: what the client computes once from the public weights, and keeps.",
        "step time over float32, integer, bf16: over the median step of the run in the clear with the same batches and the "
        "same calls on this machine; integer multiplies the same integers without encryption; bf16: float with weights and "
        "products in bfloat16, empty where it was not measured.",
        "steps equal to integer: steps whose loss is the very number of the integer run with the same batches on this machine.",
        "predicted step time: the cost model's, for whole models only, from products and a client's own work that were "
        "measured by themselves, never from this step; error: predicted over the measured median, less 100 %.",
    ]
    return table
