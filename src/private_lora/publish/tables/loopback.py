"""Table of the stage loopback: runs through workers beside the same run in process; losses, traffic, time and memory."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from private_lora.costs.model import APART, JOINT
from private_lora.publish.shared import once
from private_lora.results.labels import CALLS_NOTE, bits_label, ids_of, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import FAILED, OK, run_metrics, series_of
from private_lora.results.schema import options_text

# Steps in process under backends, with their options, that encrypt nothing.
CLEAR = {"float32": ("float", {}), "integer": ("integer", {}), "bf16": ("float", {"dtype": "bfloat16"})}
RATIOS = {f"step_time_over_{name}": how for name, how in CLEAR.items()}
COLUMNS = [
    "model",
    "backend",
    "bits",
    "arrangement",
    "machine",
    "workers",
    "rows_per_question",
    "link",
    "tls",
    "inputs",
    "recompute",
    "blocks",
    "model_blocks",
    "tokens_per_step",
    "seed",
    "steps",
    "steps_equal_to_in_process",
    "evaluations",
    "evaluations_equal_to_in_process",
    "round_trips",
    "retries",
    "rejected_answers",
    "sent_MB",
    "received_MB",
    "messages_over_interface_percent",
    "quantize_s",
    "encrypt_s",
    "server_s",
    "wait_s",
    "network_tls_framing_s",
    "decrypt_s",
    "verify_s",
    "step_time_s_median",
    "step_time_s_min",
    "step_time_s_max",
    "step_time_over_in_process",
    *RATIOS,
    "client_peak_MB",
    "largest_worker_MB",
    "status",
    "basis",
    "run_ids",
]
# Names of seconds in tables, by the metric that holds them: of a whole run here, of a token where texts are generated.
TIMES = {
    "client_quantize_time_s": "quantize_s",
    "encrypt_time_s": "encrypt_s",
    "matmul_time_s": "server_s",
    "wait_time_s": "wait_s",
    "decrypt_time_s": "decrypt_s",
    "verify_time_s": "verify_s",
}
MEGABYTES = {
    "sent_bytes": "sent_MB",
    "received_bytes": "received_MB",
    "peak_memory_bytes": "client_peak_MB",
    "largest_worker_memory_bytes": "largest_worker_MB",
}
COUNTS = ("workers", "rows_per_question", "tls", "round_trips", "retries", "rejected_answers", "interface_bytes")
LINK = ("link_latency_s", "link_bandwidth_bits_per_s")
SIZES = ("step_tokens", "blocks", "model_blocks", "share_inputs", "recompute", "lora_rank")
METRICS = (*TIMES, *MEGABYTES, *COUNTS, *LINK, *SIZES)
SETTING = ["run_id", "label", "dataset", "backend", "device", "machine", "quantizer", "constant_rows", "bits", "seed"]
SETTING += ["options"]
# What a run in process must have in common with one through workers, whose losses it then has to have as well.
BATCHES = ["label", "dataset", "device", "machine", "seed", "steps", "step_tokens", "blocks", "inputs", "recompute"]
SAME = [*BATCHES, "lora_rank", "backend", "quantizer", "constant_rows", "bits", "options"]
RUN_COLUMNS = [*SETTING, "arrangement", "model", "inputs", "remote", "status", "basis", "steps", *METRICS]
RUN_COLUMNS += ["losses", "evaluations", "step_times", "cpu_times"]


def network_runs(data: Data) -> pd.DataFrame:
    """One line per run of the stage loopback and machine, in the order of the file.

    arrangement: how its products reach their weights. remote: whether through workers. losses, evaluations, step_times,
    cpu_times (of the client's process): series by step. Otherwise what the run counted once, of the whole run.
    """
    lines = [_run(rows) for _, rows in data.loopback.groupby(["run_id", "machine"], sort=False)]
    return pd.DataFrame(lines, columns=RUN_COLUMNS)


def _run(rows: pd.DataFrame) -> dict:
    first, counted = rows.iloc[0], run_metrics(rows, METRICS)
    line = {name: first[name] for name in (*SETTING, "options") if name in first} | counted
    line |= {"label": first["model"], "model": first["model"].removesuffix(" (random weights)")}
    line |= {"arrangement": first["variant"], "bits": bits_label(first["activation_bits"], first["weight_bits"])}
    line |= {"inputs": JOINT if counted["share_inputs"] == 1 else APART, "remote": not np.isnan(counted["round_trips"])}
    line |= {"status": OK if (rows["status"] == OK).all() else FAILED, "basis": join_basis(rows["basis"])}
    times = series_of(rows, "train", "step_time_s")
    line |= {"losses": series_of(rows, "train", "loss"), "evaluations": series_of(rows, "eval", "loss")}
    return line | {"step_times": times, "steps": len(times), "cpu_times": series_of(rows, "train", "step_cpu_time_s")}


def in_process_twin(run: pd.Series, runs: pd.DataFrame) -> pd.Series | None:
    """The same run in process: same model, batches, quantization and machine; None if there is none, or for one in process.

    Of several, which only their variants tell apart, the one that has the most words of its variant in common with the run.
    """
    found = runs[~runs["remote"].astype(bool) & (runs[SAME] == run[SAME]).all(axis=1)]
    if not run["remote"] or not len(found):
        return None
    words = set(run["arrangement"].split())
    named = [set(text.split()) for text in found["arrangement"]]
    return found.iloc[max(range(len(found)), key=lambda i: (len(named[i] & words), -len(named[i])))]


def clear_twins(run: pd.Series, runs: pd.DataFrame) -> dict[str, pd.Series | None]:
    """By ratio the run in process of the same batches that encrypts nothing, at the run's bits; None where there is none."""
    local = runs[~runs["remote"].astype(bool) & (runs[BATCHES] == run[BATCHES]).all(axis=1) & (runs["run_id"] != run["run_id"])]
    local = local[(local["bits"] == run["bits"]) | (local["bits"] == "") | (run["bits"] == "")]
    of = {name: local[(local["backend"] == b) & (local["options"] == options_text(o))] for name, (b, o) in RATIOS.items()}
    return {name: found.iloc[0] if len(found) else None for name, found in of.items()}


@once
def network_lines(data: Data) -> pd.DataFrame:
    """The lines of the table `network`, with `architecture` and `remote` besides."""
    runs = network_runs(data)
    lines = [_line(run, in_process_twin(run, runs), clear_twins(run, runs)) for _, run in runs.iterrows()]
    return pd.DataFrame(lines, columns=[*COLUMNS, "architecture", "remote"])


def _line(run: pd.Series, twin: pd.Series | None, clear: dict[str, pd.Series | None]) -> dict:
    line = {name: run[name] for name in COLUMNS if name in run} | {"architecture": run["model"], "model": run["label"]}
    line |= {"remote": run["remote"], "tokens_per_step": run["step_tokens"], "evaluations": len(run["evaluations"])}
    line |= {"link": link_name(run), "tls": {1: "yes", 0: "no"}.get(run["tls"], "")}
    line |= {name: run[metric] for metric, name in TIMES.items()}
    line |= {name: run[metric] / 1e6 for metric, name in MEGABYTES.items()}
    line["messages_over_interface_percent"] = 100 * (run["sent_bytes"] + run["received_bytes"]) / run["interface_bytes"]
    line["network_tls_framing_s"] = network_seconds(run)
    times = run["step_times"]
    line |= {f"step_time_s_{kind}": getattr(times, kind)() for kind in ("median", "min", "max")}
    line |= {ratio: times.median() / other["step_times"].median() for ratio, other in clear.items() if other is not None}
    return line | {"run_ids": ids_of(run, twin, *clear.values())} | (_beside_twin(run, twin) if twin is not None else {})


def _beside_twin(run: pd.Series, twin: pd.Series) -> dict:
    """How many losses are the very numbers of the twin's, and the ratio of median steps."""
    line = {"steps_equal_to_in_process": _equal(run["losses"], twin["losses"])}
    line["evaluations_equal_to_in_process"] = _equal(run["evaluations"], twin["evaluations"])
    return line | {"step_time_over_in_process": run["step_times"].median() / twin["step_times"].median()}


def _equal(series: pd.Series, other: pd.Series) -> int:
    """Steps at which both have the same number."""
    return int((series == other.reindex(series.index)).sum())


def network_seconds(run: pd.Series) -> float:
    """Seconds of waiting in which no worker multiplied: network, TLS, framing. NaN where several questions overlap."""
    overlapped = not np.isnan(run["rows_per_question"])
    return math.nan if overlapped else run["wait_time_s"] - run["matmul_time_s"]


def link_name(run: pd.Series) -> str:
    """What lies between client and workers: `in process`, `loopback`, or a link such as `1 Gbit/s, 0.5 ms`."""
    if not run["remote"]:
        return "in process"
    bandwidth, latency = run["link_bandwidth_bits_per_s"], run["link_latency_s"]
    rate = _rate(bandwidth) if np.isfinite(bandwidth) else ""
    delay = f"{1e3 * latency:g} ms" if latency > 0 else ""
    return ", ".join(part for part in (rate, delay) if part) or "loopback"


def _rate(bandwidth: float) -> str:
    scale, unit = (1e9, "Gbit/s") if bandwidth >= 1e9 else (1e6, "Mbit/s")
    return f"{bandwidth / scale:g} {unit}"


def loopback(data: Data) -> pd.DataFrame:
    """Per run of the stage loopback: losses beside the run in process, messages, seconds by operation, step time and memory."""
    table = network_lines(data)[COLUMNS]
    table.attrs["notes"] = [
        "Client and workers are processes of their own on one machine and share its cores. in process: the same run without "
        "workers. link: loopback, or a slower one that the harness puts before every worker; its latency is there and back. "
        + CALLS_NOTE,
        "equal to in process: training steps, and evaluations, whose loss is the very number of the run in process with the "
        "same batches on this machine; empty without such a run.",
        "round trips: questions that were answered; retries: asked again; rejected answers: found wrong by the client's check. "
        "MB: 10^6 bytes of all messages as serialized, handshakes included. messages over interface: sent + received over what "
        "the loopback interface carried, TCP, TLS and all else on it included; not with a link, where everything passes twice.",
        "quantize, encrypt, server, wait, decrypt, verify: seconds in total over the run, evaluations included, so that they "
        "are not those of the steps alone. server: the workers' own time; wait: the client's, for answers; network, TLS, "
        "framing: wait less server, only where one question is on its way at a time (no rows per question). verify: the "
        "client's check.",
        "step time: median [smallest, largest], evaluations not included; over float32, integer, bf16: over the median step in "
        "process that encrypts nothing, of the same batches on this machine (integer multiplies the same integers: int8 at 8 "
        "bits); empty where it was not measured. client peak: memory of the client's process; in "
        "process: of everything. largest worker: peak of the worker that took most.",
    ]
    return table
