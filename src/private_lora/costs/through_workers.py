"""Runs through workers as the cost model needs them: their arrangement and link, and what a byte takes beside the wire."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from private_lora.costs.arrangement import Arrangement
from private_lora.costs.inputs import runs_of
from private_lora.costs.model import Work, transfer_time
from private_lora.models.shapes import Architecture
from private_lora.results.labels import ids_of
from private_lora.results.runs import OK

MOST_HOLDERS = 8
HELD_BY = {holders: f"products_held_by_{holders}" for holders in range(1, MOST_HOLDERS + 1)}
COUNTED = ("workers", "rows_per_question", "round_trips", "sent_bytes", "received_bytes")
COUNTED += ("link_latency_s", "link_bandwidth_bits_per_s", *HELD_BY.values())
# What a run in process must have in common with one through workers, so that only the way to the products differs.
SAME = ["label", "backend", "options", "device", "machine", "bits", "seed", "steps", "step_tokens", "blocks", "inputs"]
SAME += ["recompute", "lora_rank"]
INT8_COPIES = 2  # of every weight at its worker: of the product forward and of that backward


@dataclass(frozen=True)
class Handling:
    """What a byte of a message takes beside the wire, from a run through workers and the same run in process.

    bits_per_s: of the link that it was taken over; infinite without one.
    """

    model: str
    machine: str
    bits_per_s: float
    seconds_per_byte: float
    formula: str = ""
    run_ids: str = ""


UNKNOWN = Handling("", "", np.inf, 0.0, "serialization, TLS and checks of answers not measured on this machine: left out")


def runs_through_workers(loopback: pd.DataFrame) -> pd.DataFrame:
    """One line per run of the stage loopback and machine; `remote`: whether through workers; `evaluated`: not only trained."""
    runs = runs_of(loopback, COUNTED)
    evaluated = set(loopback.loc[loopback["phase"] == "eval", "run_id"])
    return runs.assign(remote=runs["workers"].notna(), evaluated=runs["run_id"].isin(evaluated))


def network_of(run: pd.Series) -> dict:
    """The link of a run as a network of the cost model."""
    latency, rate = run["link_latency_s"], run["link_bandwidth_bits_per_s"]
    latency, rate = (0.0 if np.isnan(latency) else latency), (np.inf if np.isnan(rate) else rate)
    name = f"{rate / 1e6:g} Mbit/s, {1e3 * latency:g} ms" if np.isfinite(rate) else "loopback"
    return {"name": name, "bandwidth_bits_per_s": rate, "latency_s": latency}


def arrangement_of(run: pd.Series) -> Arrangement:
    """How a run's products reached workers that share this machine, each behind a link of its own.

    A run without rows per question asks one holder at a time, however many there are.
    """
    rows, held = run["rows_per_question"], {holders: run[metric] for holders, metric in HELD_BY.items()}
    counted = {holders: count for holders, count in held.items() if count > 0}
    total = sum(counted.values())
    holders = tuple((number, count / total) for number, count in counted.items()) or ((1, 1.0),)
    size = None if np.isnan(rows) else int(rows)
    return Arrangement(int(run["workers"]), int(run["workers"]), holders, size, one_machine=True, own_links=True)


def arranged_columns(how: Arrangement, architecture: Architecture) -> dict:
    """Columns of a prediction: numbers of workers, and the bytes of weights that one holds."""
    blocks = -(-architecture.blocks // how.shards)
    columns = {"workers": how.workers, "shards": how.shards, "rows_per_question": how.rows_per_question}
    return columns | {"worker_weights_bytes": INT8_COPIES * blocks * architecture.block_weights}


def handlings_of(runs: pd.DataFrame) -> list[Handling]:
    """Of every run through workers that only trained, with one question at a time, beside the same run in process.

    The difference of their steps, less what the link took, over the bytes of a step. What of TLS and serialization is done
    while the wire is busy is not in it where there was a link, and is where there was none.
    """
    found = []
    for _, run in runs[runs["remote"].astype(bool) & runs["rows_per_question"].isna() & ~runs["evaluated"]].iterrows():
        twins = runs[~runs["remote"].astype(bool) & (runs[SAME] == run[SAME]).all(axis=1) & (runs["status"] == OK)]
        if run["status"] != OK or not len(twins):
            continue
        twin, network = twins.iloc[0], network_of(run)
        size, trips = ((run["sent_bytes"] + run["received_bytes"]) / run["steps"], run["round_trips"] / run["steps"])
        beside = run["warm_step_time_s"] - twin["warm_step_time_s"] - transfer_time(size, trips, network)
        value = max(0.0, beside / size)
        text = f"beside the wire {1e9 * value:.3g} ns a byte, measured with {run['model']} over {network['name']}"
        rate = network["bandwidth_bits_per_s"]
        found.append(Handling(run["model"], run["machine"], rate, value, text, ids_of(run, twin)))
    return found


def handled(work: Work, handlings: list[Handling], machine: str, run: pd.Series | None = None) -> tuple[Work, Handling]:
    """The work with what its bytes take beside the wire, and where that is from: never from the model of the run predicted.

    Of several, one over a link where there is one, or none, as the run has; the slowest of these.
    """
    linked = run is None or np.isfinite(network_of(run)["bandwidth_bits_per_s"])
    client = machine.rpartition(" beside ")[2]
    known = [h for h in handlings if h.machine == client and (run is None or h.model != run["model"])]
    found = max(known, key=lambda h: (np.isfinite(h.bits_per_s) == linked, h.seconds_per_byte), default=UNKNOWN)
    return replace(work, handling_s_per_byte=found.seconds_per_byte), found
