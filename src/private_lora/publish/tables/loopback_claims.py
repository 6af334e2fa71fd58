"""Acceptance figures of the runs through workers: equal losses, counted bytes, honest answers, the client's memory."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from private_lora.publish.tables.client_memory import client_memory_lines
from private_lora.publish.tables.cost_claims import FULL
from private_lora.publish.tables.loopback import network_lines
from private_lora.results.reader import Data
from private_lora.results.runs import OK

UNCOUNTED = 0.02


def network_claims(data: Data) -> Iterator[tuple]:
    """Text, values by run, target, limit, whether the limit is a least value, bases, detail: as `block_claims`."""
    lines = network_lines(data)
    remote = lines[lines["remote"].astype(bool)]
    yield _losses(remote[remote["backend"] == "packed"])
    shares = remote[remote["messages_over_interface_percent"].notna()]
    off = (shares["messages_over_interface_percent"].astype(float) / 100 - 1).abs()
    text = "runs through workers: distance of the messages' bytes from what the loopback interface carried"
    yield text, off, f"<= {UNCOUNTED:g}", UNCOUNTED, False, shares["basis"], _said(shares, "{arrangement}")
    rejected = remote["rejected_answers"].astype(float)
    text = "runs through honest workers: answers that the client's check rejected"
    yield text, rejected, "0", 0, False, remote["basis"], _said(remote, "{arrangement}: {round_trips:.0f} answers")
    yield _memory(client_memory_lines(data))


def _losses(runs: pd.DataFrame) -> tuple:
    """A run that failed has no finite value, which misses the target."""
    steps, evaluations = (runs[name] - runs[f"{name}_equal_to_in_process"] for name in ("steps", "evaluations"))
    failed = runs["status"] != OK
    unequal = (steps + evaluations).astype(float).mask(failed)
    runs, unequal = (values[unequal.notna() | failed] for values in (runs, unequal))
    text = "packed through workers: steps and evaluations whose loss differs from the run in process's"
    said = _said(runs, "{arrangement}: {steps:.0f} steps, {evaluations:.0f} evaluations")
    return text, unequal, "0", 0, False, runs["basis"], said


def _memory(lines: pd.DataFrame) -> tuple:
    chosen = lines[(lines["architecture"] == FULL) & lines["client_over_in_process"].notna()]
    text = f"client of {FULL} through workers: its peak memory over that of the same run in process"
    said = _said(chosen, "{client_peak_MB:,.0f} MB, in process {in_process_peak_MB:,.0f} MB ({in_process_stage})")
    return text, chosen["client_over_in_process"].astype(float), "<= 1", 1, False, chosen["basis"], said


def _said(lines: pd.DataFrame, text: str) -> str:
    return "; ".join(text.format(**line) for _, line in lines.iterrows())
