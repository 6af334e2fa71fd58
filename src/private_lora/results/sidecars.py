"""Sidecars, wherever a study keeps them: beside each run's records, or one a line with recorded files."""

from __future__ import annotations

import csv
import functools
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.specs.stages import MEASUREMENTS

# Directories of a study's runs.
KINDS = ("runs", *MEASUREMENTS)
# Stages had these names once, and so had the run_ids that begin with them; recorded sidecars stay as they were written.
FORMER_STAGES = {"latency": "layer", "network": "loopback"}

# What makes a number of a run the same in two files.
NUMBER = ("phase", "repeat", "step", "metric", "value")


def read_sidecars(path: Path) -> Mapping[str, dict]:
    """Sidecars by the present run_id, from a file with one a line; none if there is no such file."""
    return _sidecars_in(path, path.stat().st_mtime_ns) if path.is_file() else {}


# A report asks for every run of a study: a file is read once, as long as it stays as it is.
@functools.cache
def _sidecars_in(path: Path, changed: int) -> dict[str, dict]:
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            sidecar = json.loads(line)
            found[present_run_id(sidecar["spec"]["run_id"])] = sidecar
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f"{path}, line {number}: this is no sidecar: put the file back as it was recorded") from None
    return found


def present_run_id(run_id: str) -> str:
    """The run_id by present names of stages."""
    stage, _, rest = run_id.partition("_")
    return f"{FORMER_STAGES[stage]}_{rest}" if stage in FORMER_STAGES else run_id


def machine_of(environment: dict) -> str:
    """The machine as the rows of that run name it; of before names had instructions, processor and cores. Empty if unknown.

    A GPU stands in front of it in rows, ` beside ` between the two.
    """
    cores = environment.get("cores")
    parts = environment.get("processor", ""), f"{cores} cores" if cores else ""
    return environment.get("machine") or ", ".join(part for part in parts if part)


def find_sidecars(results: Path, recorded: Path, run_id: str) -> list[tuple[Path, dict]]:
    """Where the sidecars of a run are, and what they say: of the study in `results`, or else of the records in `recorded`."""
    run_id = present_run_id(run_id)
    own = [results / kind / run_id / "sidecar.json" for kind in KINDS]
    found = [(path, json.loads(path.read_text())) for path in own if path.is_file()]
    if found:
        return found
    lines = [(path, read_sidecars(path)) for path in sorted(recorded.glob("*/sidecars.jsonl"))]
    found = [(path, sidecars[run_id]) for path, sidecars in lines if run_id in sidecars]
    return _published(results, run_id, found) if len(found) > 1 else found


def _published(results: Path, run_id: str, found: list[tuple[Path, dict]]) -> list[tuple[Path, dict]]:
    """Of the records that have a run of this id, those whose numbers the study publishes; all if it has none of them.

    A study's own run stands for those beside it, but for blocks: their costs are published for each machine.
    """
    collected = _numbers(results / "data", run_id)
    if not collected or run_id.startswith("block_"):
        collected |= _numbers(results / "data" / "beside", run_id)
    return [(path, sidecar) for path, sidecar in found if _numbers(path.parent, run_id) & collected] or found


def _numbers(directory: Path, run_id: str) -> set[tuple]:
    """Times of a run, which no other has."""
    return set().union(*(_times_in(path, path.stat().st_mtime_ns).get(run_id, ()) for path in directory.glob("*.csv")))


@functools.cache
def _times_in(path: Path, changed: int) -> Mapping[str, set[tuple]]:
    """Times in a file of records, by the run that they are of."""
    times = defaultdict(set)
    with open(path, newline="") as handle:
        for row in csv.DictReader(handle):
            if row.get("run_id") and row.get("unit") == "s" and row["value"] and float(row["value"]):
                times[row["run_id"]].add(tuple(row[name] for name in NUMBER))
    return dict(times)
