"""From a number back to what made it: the runs behind a row of a table, and what the sidecar of a run says."""

from __future__ import annotations

import csv
import functools
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.results.parameters import parameters_text
from private_lora.results.schema import TEXTS
from private_lora.results.sidecars import machine_of, present_run_id

RUN_IDS = "run_ids"
UNKNOWN = "not recorded"
# Sections of a results directory that hold what is published.
PUBLISHED = ("tables", "figures")
# Of the environment of a run, what its result or its time depends on.
VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_WAIT_POLICY")
REPEATED = "repeated"


def runs_of_row(path: Path, number: int) -> list[str]:
    """run_ids behind a row of a published CSV; 1 is the first below the names of columns. UserError on other files."""
    try:
        with open(path, newline="") as handle:
            reader = csv.DictReader(handle)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if RUN_IDS not in columns:
        raise UserError(
            f"{path} has no column {RUN_IDS}: give a CSV of results/tables or results/figures, made by this version"
        )
    if not 1 <= number <= len(rows):
        raise UserError(f"{path} has {len(rows)} rows below the names of columns, and no row {number}")
    return rows[number - 1][RUN_IDS].split()


def results_of(path: Path) -> Path:
    """The results directory that a published file is in: the parent of `tables` or `figures`."""
    parents = path.absolute().parents
    return next((parent.parent for parent in parents if parent.name in PUBLISHED), parents[0])


def describe(run_id: str, path: Path, sidecar: dict) -> list[tuple[str, str]]:
    """Name and text of all that a sidecar (at `path`) says of a run; `not recorded` for what was not asked when it ran."""
    environment = sidecar.get("environment", {})
    return [
        ("sidecar", os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)),
        ("repeat", repeat_command(sidecar)),
        ("commit", _commit(environment)),
        ("machine", _machine(environment)),
        ("CPU flags", " ".join(environment["cpu_flags"]) if "cpu_flags" in environment else UNKNOWN),
        ("threads", _threads(sidecar)),
        ("date", _date(environment)),
        ("load", _load(environment)),
        ("disturbance", _disturbance(environment, notes(path, present_run_id(run_id)))),
        ("versions", _versions(environment)),
        ("hashes", _hashes(sidecar)),
        ("parameters", parameters_text(sidecar)),
    ]


def repeat_command(sidecar: dict) -> str:
    """A line for a shell that makes the run again, in a directory of its own, with the threads that it had."""
    command, spec = _command_of(sidecar)
    if spec is None:
        return command
    arguments = ["--spec", json.dumps(spec, sort_keys=True), "--out", f"{REPEATED}/{spec['run_id']}/records.csv"]
    if command == "loopback":
        arguments += ["--checkpoints", f"{REPEATED}/checkpoints"]
    words = [*_variables(sidecar.get("environment", {})), "python", "-m", "private_lora", command, *arguments]
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """As `shlex.quote`; an assignment keeps its name outside of the quotes."""
    name, equals, value = word.partition("=")
    return f"{name}={shlex.quote(value)}" if equals and name.isidentifier() else shlex.quote(word)


def _command_of(sidecar: dict) -> tuple[str, dict | None]:
    """Command and spec of a run by present names; the line itself and None if the run had workers that it did not start."""
    spec, place = sidecar["spec"], sidecar.get("place", {})
    recorded = sidecar.get("environment", {}).get("command", [])
    words = shlex.split(recorded) if isinstance(recorded, str) else recorded
    if spec.get("stage") in ("generation", "estimate"):
        return spec["stage"], spec
    if "loopback" in place:
        return "loopback", _present(place["loopback"])
    if place.get("workers") and "--spec" in words and ("loopback" in words or "network" in words):
        return "loopback", _present(json.loads(words[words.index("--spec") + 1]))
    if place.get("workers"):
        return shlex.join(words), None
    stage = _present(spec)["stage"]
    # Their specs name the stage; the stages of fine-tuning are many.
    return (stage if stage in ("layer", "block", "worker_view") else "finetune"), _present(spec)


def _present(spec: dict) -> dict:
    """A spec by present names of stages, in its run too."""
    named = spec | {"run_id": present_run_id(spec["run_id"])}
    if "stage" in spec:
        named["stage"] = present_run_id(f"{spec['stage']}_").removesuffix("_")
    return named | ({"run": _present(spec["run"])} if "run" in spec else {})


def _variables(environment: dict) -> Iterable[str]:
    threads = environment.get("threads") or {}
    if isinstance(threads, str):  # of the first schema: of OpenMP, and the workflow gave the others the same
        threads = dict.fromkeys(VARIABLES[:3], threads) | {"OMP_WAIT_POLICY": "PASSIVE"}
    named = {name: threads[name] for name in VARIABLES if name in threads}
    return [f"{name}={value}" for name, value in (named | {"GLIBC_TUNABLES": environment.get("malloc")}).items() if value]


def _commit(environment: dict) -> str:
    commit, dirty = environment.get("commit"), environment.get("dirty")
    if not commit:
        return UNKNOWN
    states = {True: "with uncommitted changes", False: "nothing uncommitted"}
    when = "read when the run started" if "started_at" in environment else "read when the run ended"
    return f"{commit}, {states.get(dirty, 'uncommitted changes not recorded')}, {when}"


def _machine(environment: dict) -> str:
    return ", ".join(part for part in (machine_of(environment), environment.get("platform")) if part) or UNKNOWN


def _threads(sidecar: dict) -> str:
    threads = sidecar.get("environment", {}).get("threads")
    known = {"OMP_NUM_THREADS": threads} if isinstance(threads, str) and threads else dict(threads or {})
    for library in ("torch", "numba"):
        known.setdefault(library, sidecar.get(f"{library}_threads", UNKNOWN))
    return ", ".join(f"{name} {value}" for name, value in known.items())


def _date(environment: dict) -> str:
    if "started_at" not in environment:
        return UNKNOWN
    return f"{environment['started_at']} to {environment['finished_at']}"


def _load(environment: dict) -> str:
    """Processes that ran or waited, by the system's average over a minute; the first schema knew it at the end."""
    loads = [environment[key] for key in ("load_1min", "load_1min_end") if key in environment]
    return ("start and end " if len(loads) == 2 else "end ") + ", ".join(f"{load:.2f}" for load in loads) if loads else UNKNOWN


def _disturbance(environment: dict, said: list[str]) -> str:
    share = environment.get("others_cpu_share")
    measured = UNKNOWN if share is None else f"others took {100 * share:.1f} % of the CPU time"
    if environment.get("stolen_cpu_share"):
        measured += f", of which {100 * environment['stolen_cpu_share']:.1f} % were stolen by other virtual machines"
    return "; ".join([measured, *said])


def notes(path: Path, run_id: str) -> list[str]:
    """Notes on a run in the records beside its sidecar; the note of a text is the text, and no note on the run."""
    files = sorted(path.parent.glob("*.csv"))
    return list(dict.fromkeys(note for file in files for note in _notes_in(file, file.stat().st_mtime_ns).get(run_id, ())))


@functools.cache
def _notes_in(records: Path, changed: int) -> dict[str, list[str]]:
    """Notes in a file of records by the run that they are on, read once as long as the file stays as it is."""
    found: dict[str, list[str]] = {}
    with open(records, newline="") as handle:
        for row in csv.DictReader(handle):
            if row.get("note") and row["metric"] not in TEXTS:
                found.setdefault(row["run_id"], []).append(row["note"])
    return found


def _versions(environment: dict) -> str:
    versions = {"python": environment.get("python")} | environment.get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version) or UNKNOWN


def _hashes(sidecar: dict) -> str:
    names = {"model": "model_hash", "data (sha256)": "data_sha256", "spec": "spec_digest"}
    if "operands" in sidecar or "data_sha256" not in sidecar:
        return "of random operands: the seed in the spec decides"
    known = {name: sidecar.get(key, UNKNOWN) for name, key in names.items()}
    return ", ".join(f"{name} {'left out: private' if value is None else value}" for name, value in known.items())
