"""Table of the client's memory where workers hold the linear layers, beside the run in process and full fine-tuning."""

from __future__ import annotations

import math

import pandas as pd

from private_lora.costs.inputs import full_size_runs, known_architecture
from private_lora.publish.tables.loopback import network_runs
from private_lora.publish.tables.step_cost import ADAM_COPIES, FLOAT32_BYTES, memory
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import OK

COLUMNS = [
    "model",
    "machine",
    "backend",
    "bits",
    "arrangement",
    "tokens_per_step",
    "inputs",
    "recompute",
    "client_peak_MB",
    "in_process_peak_MB",
    "client_over_in_process",
    "in_process_stage",
    "float_lora_peak_MB",
    "float_lora_stage",
    "linear_weights_MB",
    "linear_weights_in_client_MB",
    "full_fine_tuning_MB",
    "client_over_full_fine_tuning",
    "full_fine_tuning_basis",
    "full_fine_tuning_formula",
    "basis",
    "run_ids",
]
FORMULA = "weight, gradient, AdamW's two moments: {} x {} B x weights"
SAME = ["label", "step_tokens", "inputs", "recompute", "blocks", "lora_rank"]
MB = 1e6


def client_memory_lines(data: Data) -> pd.DataFrame:
    """One line per model and machine that ran whole through workers, of its largest batch; `architecture` besides."""
    runs = network_runs(data)
    whole = runs[(runs["status"] == OK) & (runs["blocks"] == runs["model_blocks"])]
    remote, local = (whole[whole["remote"].astype(bool) == kind] for kind in (True, False))
    beside = {"loopback": local, "full_size": full_size_runs(data.convergence)}
    lines = [_line(group, beside) for _, group in remote.groupby(["label", "machine"], sort=False)]
    return pd.DataFrame(lines, columns=[*COLUMNS, "architecture"])


def _line(runs: pd.DataFrame, beside: dict[str, pd.DataFrame]) -> dict:
    """Of the run that took most memory among those of most tokens a step."""
    run = runs.sort_values(["step_tokens", "peak_memory_bytes"], kind="stable").iloc[-1]
    line = {name: run[name] for name in COLUMNS if name in run} | {"architecture": run["model"], "model": run["label"]}
    line |= {"tokens_per_step": run["step_tokens"], "client_peak_MB": run["peak_memory_bytes"] / MB}
    same, stage, same_ids = _peak(run, beside, backend=run["backend"], bits=run["bits"])
    plain, plain_stage, plain_ids = _peak(run, beside, backend="float")
    line |= {"in_process_peak_MB": same, "in_process_stage": stage}
    line |= {"float_lora_peak_MB": plain, "float_lora_stage": plain_stage, "run_ids": ids_of(run, same_ids, plain_ids)}
    line["client_over_in_process"] = line["client_peak_MB"] / same
    return line | _arithmetic(run, line["client_peak_MB"])


def _peak(run: pd.Series, beside: dict[str, pd.DataFrame], **wanted: str) -> tuple[float, str, str]:
    """Largest peak in MB of such a run in process, its stage (and machine, if it is another) and its id; NaN without one."""
    for stage, others in beside.items():
        same = (others[SAME] == run[SAME]).all(axis=1) & (others["status"] == OK)
        found = others[same & (others[list(wanted)] == pd.Series(wanted)).all(axis=1)]
        here = found[found["machine"] == run["machine"]]
        chosen = here if len(here) else found
        if len(chosen):
            most = chosen.sort_values("peak_memory_bytes", kind="stable").iloc[-1]
            return most["peak_memory_bytes"] / MB, stage if len(here) else f"{stage}, {most['machine']}", most["run_id"]
    return math.nan, "", ""


def _arithmetic(run: pd.Series, client: float) -> dict:
    """What follows from the architecture; nothing for a model whose config.json the rows do not hold."""
    architecture = known_architecture(run["model"])
    if architecture is None:
        return {}
    full = memory(run["model"], int(run["lora_rank"]))["full_fine_tuning_bytes"] / MB
    line = {"linear_weights_MB": FLOAT32_BYTES * architecture.remote_weights / MB, "linear_weights_in_client_MB": 0}
    line |= {"full_fine_tuning_MB": full, "client_over_full_fine_tuning": client / full}
    formula = FORMULA.format(ADAM_COPIES, FLOAT32_BYTES)
    return line | {"full_fine_tuning_basis": "extrapolated", "full_fine_tuning_formula": formula}


def client_memory(data: Data) -> pd.DataFrame:
    """By model: peak memory of the client whose workers hold the linear layers, of the same run in process, and of others."""
    table = client_memory_lines(data)[COLUMNS]
    table.attrs["notes"] = [
        "MB: 10^6 bytes. client peak: largest memory of the client's process over the runs through workers with most tokens a "
        "step, libraries and activations included; that of a small model is mostly libraries.",
        "in process: the same model, backend, batch and setting with client and server in one process; float LoRA: in the "
        "clear, float32. stage: where it was measured, and on which machine if on another; empty where none was.",
        "linear weights: float32, of the base model's transformer blocks, by arithmetic on its shapes. The client holds none "
        "of them after start: by construction, and by a test of the suite; it is not read off the measured peak.",
        "full fine-tuning: extrapolated by arithmetic, a lower bound, as its formula says: without activations.",
    ]
    return table
