"""Which commit computed each run, as its sidecar says, collected beside the rows that tables are made of."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from private_lora.core.files import atomic_path
from private_lora.results.provenance import instructions
from private_lora.results.records import SIDECARS
from private_lora.results.sidecars import KINDS, read_sidecars

FILE = "commits.csv"


@dataclass(frozen=True)
class Commit:
    """Of a run on a machine. commit: short, with a + behind it if files had uncommitted changes."""

    run_id: str
    machine: str
    commit: str
    instructions: str


def collect_commits(results: Path, own: Iterable[Path], beside: Iterable[Path], out: Path) -> None:
    """Write the commits of all runs in files of rows: a study's own, which stand for those of the same name beside them.

    A file's sidecars are in the file SIDECARS next to it, or else beside the runs in the directory of results.
    """
    mine = list(dict.fromkeys(commit for path in own for commit in _of(path, results)))
    known = {(commit.run_id, commit.machine) for commit in mine}
    others = dict.fromkeys(commit for path in beside for commit in _of(path, results))
    with atomic_path(out, shared=True) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(field.name for field in fields(Commit))
        writer.writerows(astuple(commit) for commit in mine)
        writer.writerows(astuple(commit) for commit in others if (commit.run_id, commit.machine) not in known)


def read_commits(directory: Path) -> list[Commit]:
    """What `collect_commits` wrote there; nothing where it did not."""
    path = directory / FILE
    if not path.is_file():
        return []
    with open(path, newline="") as handle:
        return [Commit(**row) for row in csv.DictReader(handle)]


def _of(rows: Path, results: Path) -> list[Commit]:
    """Of each run and machine in a file of rows whose sidecar is there."""
    with open(rows, newline="") as handle:
        found = dict.fromkeys((row["run_id"], row["machine"]) for row in csv.DictReader(handle))
    recorded = read_sidecars(rows.parent / SIDECARS)
    return [_commit(*key, environment) for key in found if (environment := _environment(key[0], recorded, results))]


def _environment(run_id: str, recorded: Mapping[str, dict], results: Path) -> dict:
    if recorded:
        return recorded.get(run_id, {}).get("environment", {})
    paths = (results / kind / run_id / "sidecar.json" for kind in KINDS)
    return next((_read(path)["environment"] for path in paths if path.is_file()), {})


@functools.cache
def _read(sidecar: Path) -> dict:
    return json.loads(sidecar.read_text())


def _commit(run_id: str, machine: str, environment: dict) -> Commit:
    commit = environment.get("commit", "")[:7] or "none"
    changed = "+" if environment.get("dirty") else ""
    return Commit(run_id, machine, f"{commit}{changed}", instructions(environment.get("cpu_flags", [])))
