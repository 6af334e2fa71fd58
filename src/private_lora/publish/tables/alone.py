"""Table of the client alone, in each type of weights, beside encrypted runs through workers: time, memory, money."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from private_lora.costs.inputs import known_architecture, schemes_of
from private_lora.costs.model import APART, PRICE, money, products_of, transfer_time
from private_lora.costs.predict import product_sums
from private_lora.publish.shared import once
from private_lora.publish.tables.alone_notes import sentences
from private_lora.publish.tables.loopback import link_name, network_runs
from private_lora.results.labels import LABELS, ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import OK
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS

# Ways to train alone, by backend and options; the names stand in the columns of ratios.
ALONE = {
    "float32": ("float", {}),
    "bf16": ("float", {"dtype": "bfloat16"}),
    "int8": ("float", {"dtype": "int8"}),
    "int4": ("float", {"dtype": "int4"}),
    "integer": ("integer", {}),
}
WAYS = {(backend, options_text(options)): name for name, (backend, options) in ALONE.items()}
TIMES = ("client_cpu", "wall")
RATIOS = [f"{time}_over_{name}" for time in TIMES for name in ALONE]
COLUMNS = [
    "model",
    "machine",
    "tokens",
    "blocks",
    "model_blocks",
    "inputs",
    "recompute",
    "way",
    "link",
    "workers",
    "warm_steps",
    *(f"{time}_s_per_token{kind}" for time in TIMES for kind in ("", "_min", "_max")),
    *RATIOS,
    "client_peak_MB",
    "largest_worker_MB",
    "traffic_MB_per_token",
    "money_per_million_tokens",
    "currency",
    "formula",
    "status",
    "basis",
    "run_ids",
]
SETTING = ["label", "machine", "step_tokens", "blocks", "model_blocks", "inputs", "recompute", "lora_rank"]
MB, MILLION = 1e6, 1e6
GLWE_FORMULA = (
    "encryption, product, decryption of one row of every layer, each a call, x blocks; link by its rate; nothing else"
)


@once
def alone_lines(data: Data) -> pd.DataFrame:
    """One line per way to take the same step, where both kinds of way were measured; `remote` besides."""
    runs = network_runs(data)
    prices = _prices(data)
    lines = [line for _, group in runs.groupby(SETTING, sort=False) for line in _lines(group, data, prices)]
    return pd.DataFrame(lines, columns=[*COLUMNS, "remote"])


def _prices(data: Data) -> dict:
    lines = data.costs[data.costs["kind"] == PRICE]
    return dict(zip(lines["formula"], lines["money_per_step"], strict=True)) | {"currency": lines["currency"].max()}


def _lines(runs: pd.DataFrame, data: Data, prices: dict) -> Iterator[dict]:
    """Of runs of the same step: those of the client alone, and then those that workers take part in."""
    alone, remote = (runs[runs["remote"].astype(bool) == kind] for kind in (False, True))
    ways = {_way(run): run for _, run in alone.iterrows() if _way(run)}
    remote = remote[[BACKENDS[name].encrypted for name in remote["backend"]]]
    if not ways or not len(remote):
        return
    clear = {name: _measured(ways[name], name, prices) for name in ALONE if name in ways}
    found = [*clear.values(), *(_measured(run, LABELS[run["backend"]], prices) for _, run in remote.iterrows())]
    glwe = _glwe(remote.iloc[0], data, prices)
    for line in [*found, *([glwe] if glwe else [])]:
        ids = ids_of(line["run_ids"], *(other["run_ids"] for other in clear.values()))
        yield line | _ratios(line, clear) | {"run_ids": ids}


def _way(run) -> str | None:
    return WAYS.get((run["backend"], run["options"]))


def _about(run) -> dict:
    line = {name: run[name] for name in COLUMNS if name in run}
    return line | {"model": run["label"], "tokens": run["step_tokens"], "link": link_name(run)}


def _measured(run, way: str, prices: dict) -> dict:
    """A run, by its steps behind the first."""
    line = _about(run) | {"way": way, "remote": run["remote"], "warm_steps": max(0, run["steps"] - 1)}
    for name, times in zip(TIMES, (run["cpu_times"], run["step_times"]), strict=True):
        warm = times.iloc[1:] / run["step_tokens"]
        values = {"": warm.median(), "_min": warm.min(), "_max": warm.max()}
        line |= {f"{name}_s_per_token{kind}": value for kind, value in values.items()}
    sent = (run["sent_bytes"] + run["received_bytes"]) / (run["steps"] * run["step_tokens"]) if run["remote"] else 0.0
    workers = int(run["workers"]) if run["remote"] else 0
    line |= {"client_peak_MB": run["peak_memory_bytes"] / MB, "largest_worker_MB": run["largest_worker_memory_bytes"] / MB}
    return line | {"run_ids": run["run_id"], "workers": workers} | _paid(line["wall_s_per_token"], sent, workers, prices)


def _paid(seconds: float, sent: float, workers: int, prices: dict) -> dict:
    """Traffic and money of a token that takes so many seconds and bytes."""
    if len(prices) < 4:
        return {"traffic_MB_per_token": sent / MB}
    paid = MILLION * money(seconds, sent, workers, prices)
    return {"traffic_MB_per_token": sent / MB, "money_per_million_tokens": paid, "currency": prices["currency"]}


def _glwe(run, data: Data, prices: dict) -> dict | None:
    """A token under `glwe` over the run's link, from one row of each layer on the same machine; None without those."""
    architecture = known_architecture(run["model"])
    schemes = schemes_of(data.block_of_all_machines, ["glwe"])
    here = [scheme for scheme in schemes if (scheme.machine, scheme.device) == (run["machine"], "cpu")]
    if architecture is None or not here:
        return None
    products = products_of(architecture, APART, int(run["blocks"]))
    sums = product_sums(products, here[0].at(1))
    if sums is None or sums["fitted"]:  # of shapes of another model
        return None
    network = {"bandwidth_bits_per_s": run["link_bandwidth_bits_per_s"], "latency_s": run["link_latency_s"]}
    sent = sums["upload_ciphertext_bytes"] + sums["download_ciphertext_bytes"]
    trips = sum(product.times for product in products) / run["step_tokens"]
    shaped = network if math.isfinite(network["bandwidth_bits_per_s"]) else None
    client = sums["encrypt_time_s"] + sums["decrypt_time_s"]
    wall = client + sums["matmul_time_s"] + transfer_time(sent, trips, shaped)
    line = _about(run) | {"way": LABELS["glwe"], "remote": True, "workers": 1, "inputs": APART, "warm_steps": 0}
    line |= {"client_cpu_s_per_token": client, "wall_s_per_token": wall, "formula": GLWE_FORMULA}
    return line | {"basis": "extrapolated", "status": OK, "run_ids": sums["run_ids"]} | _paid(wall, sent, 1, prices)


def _ratios(line: dict, clear: dict[str, dict]) -> dict:
    return {
        f"{time}_over_{name}": line[f"{time}_s_per_token"] / other[f"{time}_s_per_token"]
        for time in TIMES
        for name, other in clear.items()
    }


def alone_or_outsourced(data: Data) -> pd.DataFrame:
    """By model and tokens of a step: the client alone in each type of weights, and with workers, of the same machine."""
    lines = alone_lines(data)
    table = lines[COLUMNS]
    table.attrs["notes"] = [
        "Every way takes the same step: same batches, rank, blocks and recomputation, on one machine whose cores client and "
        "workers share. warm steps: those behind the first, of which times are the median [smallest, largest].",
        "way: float32, bf16, int8, int4: rows are not quantized, weights are held in this type, once, and where the CPU has no "
        "arithmetic of the type they are widened in blocks and multiplied as float32. int8 and int4 round weights in groups of "
        "64, so that they are another function: their losses are not those of float32. integer: 8-bit weights and rows, "
        "exactly; without an int8 unit it holds them as float32 or float64, and its memory is not that of 8 bits.",
        "client cpu: of all threads of the client's process; ratios are over the client alone in the type named. wall: of the "
        "step. peak: of the whole run, start included.",
        "money: wall seconds of client and workers, and traffic, at the prices that the configuration assumes; extrapolated "
        "from measured seconds and bytes.",
        *sentences(lines, tuple(ALONE)),
    ]
    return table
