"""Table of the measured full steps: time by stage, memory, bytes and loss, beside the exact integers and the cost model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.costs.inputs import STAGES, full_size_runs
from private_lora.costs.model import SIZES, VALIDATION
from private_lora.results.labels import in_order
from private_lora.results.reader import Data

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
    "step_times_s",
    "step_time_s_median",
    "step_time_s_min",
    "step_time_s_max",
    "quantize_s",
    "encrypt_s",
    "server_s",
    "decrypt_s",
    "rest_s",
    "peak_memory_bytes",
    "upload_bytes_per_token",
    "download_bytes_per_token",
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
]
STAGE_NAMES = dict(zip(STAGES, ("quantize_s", "encrypt_s", "server_s", "decrypt_s"), strict=True))
SAME = ["model", "label", "machine", "seed", "blocks", "step_tokens", "inputs", "recompute", "lora_rank", "bits", "steps"]


def full_steps(data: Data) -> pd.DataFrame:
    """One line per run of the stage full_size, seconds of each stage per step; `run_id` and `step_times` (a tuple) besides."""
    runs = full_size_runs(data.convergence)
    predictions = data.costs[data.costs["kind"] == VALIDATION]
    lines = [_line(run, runs, predictions) for _, run in runs.iterrows()]
    table = pd.DataFrame(lines, columns=[*COLUMNS, "run_id", "step_times", "architecture"])
    return in_order(table, ["architecture", "tokens", "model_blocks", "blocks", "backend", "variant"])


def _line(run, runs: pd.DataFrame, predictions: pd.DataFrame) -> dict:
    line = {name: run[name] for name in (*COLUMNS, "run_id", "step_times") if name in run}
    line |= {"architecture": run["model"], "model": run["label"], "tokens": run["step_tokens"]}
    times = pd.Series(run["step_times"], dtype=float)
    line |= {f"step_time_s_{kind}": getattr(times, kind)() for kind in ("median", "min", "max")}
    line["step_times_s"] = ", ".join(f"{seconds:.4g}" for seconds in times)
    line |= {name: run[metric] / run["steps"] if run["steps"] else np.nan for metric, name in STAGE_NAMES.items()}
    # A backend that does not quantize has no time of it, and its products are all it does elsewhere.
    line["rest_s"] = times.mean() - np.nansum([line[name] for name in STAGE_NAMES.values()])
    trained = run["steps"] * run["step_tokens"]
    up, down = (run[size] / trained if run["encrypted_matmuls"] else np.nan for size in SIZES)
    line |= {"upload_bytes_per_token": up, "download_bytes_per_token": down}
    line["last_loss"] = run["losses"][-1] if run["losses"] else np.nan
    line["steps_equal_to_integer"] = _equal_steps(run, runs)
    return line | _prediction(run, predictions)


def _equal_steps(run, runs: pd.DataFrame) -> float:
    """Steps whose loss is the very number of the integer run's on the same machine; NaN without such a twin."""
    twins = runs[(runs["backend"] == "integer") & (runs[SAME] == run[SAME]).all(axis=1)]
    if run["backend"] in ("integer", "float") or not len(twins):
        return np.nan
    return float(sum(a == b for a, b in zip(run["losses"], twins["losses"].iloc[0], strict=True)))


def _prediction(run, predictions: pd.DataFrame) -> dict:
    found = predictions[(predictions["run_id"] == run["run_id"]) & (predictions["machine"] == run["machine"])]
    if not len(found):
        return {}
    predicted = found.iloc[0]
    known = {"prediction_formula": predicted["formula"], "predicted_step_time_s": predicted["step_time_s"]}
    known["prediction_basis"] = "extrapolated" if np.isfinite(predicted["step_time_s"]) else ""
    return known | {"prediction_error_percent": 100 * predicted["relative_error"]}


def full_step(data: Data) -> pd.DataFrame:
    """Per run of the stage full_size: step times, stages, memory, bytes, loss beside `integer`, and what was predicted."""
    table = full_steps(data)[COLUMNS]
    table.attrs["notes"] = [
        "Random tokens, and random weights where the model says so: a measurement of cost, not of learning. blocks: "
        "transformer blocks of this run, of the model's. inputs joint: q, k, v are one remote product, and gate, up another. "
        "recompute 1: activations of a block are computed again in backward.",
        "step times: of every step; median [smallest, largest]. quantize, encrypt, server, decrypt: mean seconds per step in "
        "these stages; rest: everything else, all of it at the client. Client and server are one process on one machine.",
        "steps equal to integer: steps whose loss is the very number of the integer run with the same batches on this machine.",
        "predicted step time: the cost model's, for whole models only, from products and a client's own work that were "
        "measured by themselves, never from this step; error: predicted over the measured median, less 100 %.",
    ]
    return table
