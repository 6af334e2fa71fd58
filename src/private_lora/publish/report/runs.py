"""The runs behind the tables: what their sidecars say, and machines, commits and dates of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from private_lora.results.sidecars import find_sidecars, machine_of
from private_lora.results.trace import describe

DATE = slice(0, 10)  # of an ISO time


@dataclass(frozen=True)
class Run:
    """A run. machine, commit, date: of its sidecar, empty where that does not say. said: name and text of all it says."""

    run_id: str
    machine: str = ""
    commit: str = ""
    date: str = ""
    said: tuple[tuple[str, str], ...] = ()


def runs_of(run_ids: Iterable[str], results: Path, recorded: Path) -> dict[str, Run]:
    """Each run by its id, with or without a sidecar."""
    return {run_id: _run(run_id, results, recorded) for run_id in run_ids}


def _run(run_id: str, results: Path, recorded: Path) -> Run:
    found = find_sidecars(results, recorded, run_id)
    if not found:
        return Run(run_id)
    said = tuple(pair for path, sidecar in found for pair in describe(run_id, path, sidecar))
    environments = [sidecar.get("environment", {}) for _, sidecar in found]
    machines, commits, dates = (
        _joined(values)
        for values in zip(
            *((machine_of(e), e.get("commit", "")[:10], e.get("started_at", "")[DATE]) for e in environments), strict=True
        )
    )
    return Run(run_id, machines, commits, dates, said)


def _joined(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


def summary(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Machines, commits and dates of the runs, each once, in order."""
    columns = {"machines": "machine", "commits": "commit", "dates": "date"}
    return {
        name: sorted({part for run in runs for part in getattr(run, column).split("; ") if part})
        for name, column in columns.items()
    }
