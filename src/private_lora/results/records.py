"""Records that are kept: what a study measured, with its sidecars, for other studies to publish. Imports no pandas."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.files import atomic_path, make_directory
from private_lora.results.sidecars import KINDS, read_sidecars
from private_lora.specs.stages import MEASUREMENTS

FILES = ("convergence.csv", *(f"{kind}.csv" for kind in MEASUREMENTS))
SIDECARS = "sidecars.jsonl"


def record(results: Path, out: Path) -> int:
    """How many runs of a study were kept in `out`: the files of its rows, and the sidecar of each run that has rows in them.

    Raises UserError, and keeps nothing, when there are none, or the code of a run is in no commit.
    """
    rows = {name: results / "data" / name for name in FILES if (results / "data" / name).is_file()}
    runs = {name: dict.fromkeys(run_ids(path)) for name, path in rows.items()}
    read = [json.loads(path.read_text()) for kind in KINDS for path in sorted((results / kind).glob("*/sidecar.json"))]
    known = {run_id for found in runs.values() for run_id in found}
    sidecars = {s["spec"]["run_id"]: s for s in read if s["spec"]["run_id"] in known}
    if not sidecars:
        raise UserError(f"{results} holds no runs with published rows: give the directory of a study that was reported")
    _check(results, sidecars)
    make_directory(out, shared=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
        if runs.get(name):
            (out / name).write_text(rows[name].read_text())
    with atomic_path(out / SIDECARS, shared=True) as temporary:
        temporary.write_text("".join(json.dumps(s, sort_keys=True, separators=(",", ":")) + "\n" for s in sidecars.values()))
    return len(sidecars)


def run_ids(rows: Path) -> list[str]:
    """The run_id of every row of a file."""
    with open(rows, newline="") as handle:
        return [row["run_id"] for row in csv.DictReader(handle)]


def check_committed(directory: Path) -> None:
    """Nothing; raises UserError for a directory of records with a run whose code is in no commit."""
    _check(directory, read_sidecars(directory / SIDECARS))


def _check(directory: Path, sidecars: Mapping[str, dict]) -> None:
    """Nothing; raises UserError for runs that nobody can repeat: of code with uncommitted changes, or of no known commit."""
    environments = {run_id: sidecar.get("environment", {}) for run_id, sidecar in sidecars.items()}
    found = [run_id for run_id, known in environments.items() if not known.get("commit") or known.get("dirty") is not False]
    if found:
        raise UserError(
            f"{directory}: the code of {len(found)} of {len(sidecars)} runs is in no commit, so that nobody could repeat them "
            f"({', '.join(found[:3])}{', ...' if len(found) > 3 else ''}): commit, run them again, and record those"
        )
