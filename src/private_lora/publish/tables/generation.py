"""Table of the stage generation: a text token by token, in process and through workers, beside float32 and exact integers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.tables.loopback import LINK, TIMES, link_name
from private_lora.results.labels import CALLS_NOTE, bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import FAILED, OK, run_metrics
from private_lora.results.schema import options_text

# Times are compared with those of backends, with their options, that encrypt nothing, in the same arrangement.
CLEAR = {"float32": ("float", {}), "integer": ("integer", {}), "bf16": ("float", {"dtype": "bfloat16"})}
RATIOS = {f"token_time_over_{name}": how for name, how in CLEAR.items()}
# The same of whole texts: in these, what was made for many tokens at once counts.
TEXT_RATIOS = {f"text_time_over_{name}": how for name, how in CLEAR.items()}
COUNTS = {"remote_matmuls": "remote_calls_per_token", "round_trips": "round_trips_per_token"}
MEGABYTES = {
    "upload_ciphertext_bytes": "upload_MB_per_token",
    "download_ciphertext_bytes": "download_MB_per_token",
    "sent_bytes": "sent_MB_per_token",
    "received_bytes": "received_MB_per_token",
}
RUN_MEGABYTES = {"peak_memory_bytes": "client_peak_MB", "largest_worker_memory_bytes": "largest_worker_MB"}
RUN = ("prompt_tokens", "new_tokens", "share_inputs", "workers", "tls", "security_bits", *LINK, *RUN_MEGABYTES)
COLUMNS = [
    "model",
    "backend",
    "bits",
    "options",
    "arrangement",
    "machine",
    "device",
    "workers",
    "link",
    "tls",
    "inputs",
    "prompt_tokens",
    "new_tokens",
    "setup_s",
    "prefill_s",
    "first_token_s",
    "token_time_s_median",
    "token_time_s_min",
    "token_time_s_max",
    "text_s",
    "text_offline_s",
    "text_s_per_token",
    *TEXT_RATIOS,
    *RATIOS,
    *TIMES.values(),
    *COUNTS.values(),
    *MEGABYTES.values(),
    "total_MB_per_token",
    "prefill_upload_MB",
    "prefill_download_MB",
    *RUN_MEGABYTES.values(),
    "encrypted_matmuls",
    "security_bits",
    "tokens_equal_to_integer",
    "status",
    "basis",
    "run_ids",
]
# What a run beside which another stands must have in common with it.
SAME = ["model", "machine", "device", "inputs", "prompt_tokens", "new_tokens", "seed"]
PREFILL, FIRST = 1, 2


def generation(data: Data) -> pd.DataFrame:
    """One line per measurement of a generated text; prefill, first token and the tokens behind it apart."""
    runs = [_run(rows) for _, rows in data.generation.groupby(["run_id", "machine"], sort=False)]
    frame = pd.DataFrame(runs, columns=[*COLUMNS, "seed", "token_ids"])
    lines = [run | _beside(pd.Series(run), frame) for run in runs]
    table = in_order(pd.DataFrame(lines, columns=COLUMNS), ["model", "machine", "workers", "link", "backend"])
    table.attrs["notes"] = [
        "prefill: from the prompt to the first token; first token: the first of a single row, which pays for what is made "
        "once; token time: median [smallest, largest] of those behind it. text: all of them together, with what was made for "
        "many tokens at once wherever it fell; offline: that part of it, which token time has not; text per token: all of it "
        "over the new tokens, and text time its ratios. Quantize to verify, calls, trips and MB: medians of "
        "the tokens behind the first too. server: the time of all workers; wait: the client's, for answers. MB: 10^6 bytes, "
        "upload and download of ciphertext, sent and received of all messages. setup: reading, "
        "quantizing and preparing the model, "
        "handshakes included. " + CALLS_NOTE,
        "over float32, integer, bf16: beside the same text in the same arrangement; where there is none, in process; integer "
        "multiplies the same integers (int8 at 8 bits); empty where it was not measured.",
        "tokens equal to integer: of the first text, up to the first other one.",
    ]
    return table


def _run(rows: pd.DataFrame) -> dict:
    first, counted = rows.iloc[0], run_metrics(rows, RUN)
    tokens = rows[rows["phase"] == "token"].pivot_table("value", ["repeat", "step"], "metric", sort=False)
    steps = tokens.index.get_level_values("step")
    steady = tokens[steps > FIRST]
    line = {name: first[name] for name in ("model", "backend", "machine", "device", "seed", "options")} | counted
    line |= {"arrangement": first["variant"], "bits": bits_label(first["activation_bits"], first["weight_bits"])}
    line |= {"inputs": "joint" if counted["share_inputs"] == 1 else "apart", "tls": {1: "yes", 0: "no"}.get(counted["tls"], "")}
    line |= {"link": link_name(pd.Series(counted | {"remote": counted["workers"] > 0}))}
    line |= {name: counted[metric] / 1e6 for metric, name in RUN_MEGABYTES.items()}
    line["setup_s"] = rows.loc[rows["metric"] == "setup_time_s", "value"].median()
    line["prefill_s"] = tokens.loc[steps == PREFILL, "token_time_s"].median()
    line["first_token_s"] = tokens.loc[steps == FIRST, "token_time_s"].median()
    line |= {f"token_time_s_{kind}": getattr(steady["token_time_s"], kind)() for kind in ("median", "min", "max")}
    for name, metric in (("text_s", "token_time_s"), ("text_offline_s", "offline_time_s")):
        line[name] = tokens.groupby("repeat")[metric].sum().median()
    line["text_s_per_token"] = line["text_s"] / counted["new_tokens"]
    line |= {name: steady[metric].median() for metric, name in (TIMES | COUNTS).items()}
    line |= {name: steady[metric].median() / 1e6 for metric, name in MEGABYTES.items()}
    line["total_MB_per_token"] = line["upload_MB_per_token"] + line["download_MB_per_token"]
    for way in ("upload", "download"):
        line[f"prefill_{way}_MB"] = tokens.loc[steps == PREFILL, f"{way}_ciphertext_bytes"].median() / 1e6
    line["encrypted_matmuls"] = tokens["encrypted_matmuls"].sum()
    line["token_ids"] = tuple(tokens["token_id"].iloc[: int(counted["new_tokens"])])
    line["status"] = OK if (rows["status"] == OK).all() else FAILED
    return line | {"basis": join_basis(rows["basis"]), "run_ids": ids_of(rows)}


def _beside(run: pd.Series, runs: pd.DataFrame) -> dict:
    """Ratios of medians, and how many tokens are those of exact integers of the same bits."""
    others = {ratio: _other(run, runs, *how) for ratio, how in RATIOS.items()}
    line = {ratio: _over(run, other, "token_time_s_median") for ratio, other in others.items()}
    line |= {ratio: _over(run, _other(run, runs, *how), "text_s") for ratio, how in TEXT_RATIOS.items()}
    twin = others["token_time_over_integer"]
    if twin is not None and twin["bits"] == run["bits"]:
        pairs = zip(run["token_ids"], twin["token_ids"], strict=True)
        line["tokens_equal_to_integer"] = next((i for i, (a, b) in enumerate(pairs) if a != b), len(run["token_ids"]))
    return line | {"run_ids": ids_of(run, *others.values())}


def _over(run: pd.Series, other: pd.Series | None, time: str) -> float:
    return np.nan if other is None else run[time] / other[time]


def _other(run: pd.Series, runs: pd.DataFrame, backend: str, options: dict) -> pd.Series | None:
    """The same text by another backend with these options, in the same arrangement if there is one, else in process."""
    found = runs[(runs["backend"] == backend) & (runs["options"].fillna("") == options_text(options))]
    found = found[(found[SAME] == run[SAME]).all(axis=1)]
    # The name of an arrangement stands behind that of the backend's variant, where it has one.
    here = found["arrangement"].map(lambda name: name.endswith(run["arrangement"]))
    for same in (here, found["link"] == "in process"):
        if same.any():
            return found[same].iloc[0]
    return None
