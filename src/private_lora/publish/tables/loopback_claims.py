"""Acceptance figures of the runs through workers: equal losses, counted bytes, honest answers, the client's memory."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from private_lora.publish.tables.claim import Claim, said
from private_lora.publish.tables.client_memory import client_memory_lines
from private_lora.publish.tables.cost_claims import FULL
from private_lora.publish.tables.loopback import network_lines
from private_lora.results.reader import Data
from private_lora.results.runs import OK

UNCOUNTED = 0.02


def loopback_claims(data: Data) -> Iterator[Claim]:
    """Equal losses, counted bytes, honest answers and the client's memory of the runs through workers."""
    lines = network_lines(data)
    remote = lines[lines["remote"].astype(bool)]
    yield _losses(remote[remote["backend"] == "packed"])
    shares = remote[remote["messages_over_interface_percent"].notna()]
    off = (shares["messages_over_interface_percent"].astype(float) / 100 - 1).abs()
    text = "runs through workers: distance of the messages' bytes from what the loopback interface carried"
    yield Claim(text, off, shares, UNCOUNTED, detail=said(shares, "{arrangement}"))
    text = "runs through honest workers: answers that the client's check rejected"
    answers = said(remote, "{arrangement}: {round_trips:.0f} answers")
    yield Claim(text, remote["rejected_answers"], remote, 0, target="0", detail=answers)
    yield _memory(client_memory_lines(data))


def _losses(runs: pd.DataFrame) -> Claim:
    """A run that failed has no finite value, which misses the target."""
    steps, evaluations = (runs[name] - runs[f"{name}_equal_to_in_process"] for name in ("steps", "evaluations"))
    failed = runs["status"] != OK
    unequal = (steps + evaluations).astype(float).mask(failed)
    runs, unequal = (values[unequal.notna() | failed] for values in (runs, unequal))
    text = "packed through workers: steps and evaluations whose loss differs from the run in process's"
    counts = said(runs, "{arrangement}: {steps:.0f} steps, {evaluations:.0f} evaluations")
    return Claim(text, unequal, runs, 0, target="0", detail=counts)


def _memory(lines: pd.DataFrame) -> Claim:
    chosen = lines[(lines["architecture"] == FULL) & lines["client_over_in_process"].notna()]
    text = f"client of {FULL} through workers: its peak memory over that of the same run in process"
    detail = said(chosen, "{client_peak_MB:,.0f} MB, in process {in_process_peak_MB:,.0f} MB ({in_process_stage})")
    return Claim(text, chosen["client_over_in_process"], chosen, 1, detail=detail)
