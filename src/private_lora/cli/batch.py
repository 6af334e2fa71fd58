"""Several runs from one process, for the workflow: `--spec A B C --runs DIRECTORY`. Imports nothing heavy."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.memory import keep_libraries
from private_lora.core.processes import end_with_parent

# What runs spend their first seconds on. A run imports the rest itself: what its backend, its data and its model need.
BENCH_IMPORTS = ("torch",)
TRAINING_IMPORTS = ("private_lora.training.run", "peft", "transformers.models.llama.modeling_llama")


def add_specs(parser, what: str, required: bool = True) -> None:
    """Arguments of a command that takes one spec, or several of them with a directory for their files."""
    parser.add_argument("--spec", nargs="+", required=required, help=f"JSON: the fields of {what}; several with --runs")
    parser.add_argument("--out", type=Path, required=True, help="records.csv to write; with --runs, the rows of all specs")
    parser.add_argument("--runs", type=Path, help="directory for the files of each spec; what is done there stays as it is")


def only_spec(args) -> str:
    """The spec of a command that was given no directory for several."""
    if len(args.spec) > 1:
        raise UserError("several specs need --runs, a directory that takes the files of each")
    return args.spec[0]


def run_all(args, kind: type, run: Callable, imports: Iterable[str]) -> int:
    """Exit status after run(spec, records) for every spec whose records are not there already, each all or nothing.

    imports: modules that every run needs; they are imported once, and each run is a fork of this process: its memory, its
    random numbers and whatever it changes in a library are its own. One that fails does not keep the others from running; then
    `--out` is not written.
    """
    from private_lora.results.provenance import code_state
    from private_lora.results.recorder import collect
    from private_lora.study.done import is_done, origin

    specs = [kind.from_json(text) for text in args.spec]
    records = {spec.run_id: args.runs / spec.run_id / "records.csv" for spec in specs}
    origins = {spec.run_id: origin(spec, args.runs) for spec in specs}
    waiting = [spec for spec in specs if not is_done(origins[spec.run_id], records[spec.run_id])]
    code_state()  # what is imported now is what runs, whatever is committed before the last of them starts
    for name in imports if waiting else ():
        importlib.import_module(name)
    keep_libraries()
    failed = [spec.run_id for spec in waiting if not _is_run(run, spec, records[spec.run_id], origins[spec.run_id])]
    if failed:
        raise UserError(f"{len(failed)} of {len(specs)} runs failed, the others are kept: {', '.join(failed)}")
    collect(list(records.values()), args.out)
    return 0


def _is_run(run: Callable, spec, records: Path, origin: dict) -> bool:
    """Whether a run of its own process has written its records."""
    records.unlink(missing_ok=True)
    process = get_context("fork").Process(target=_run_one, args=(run, spec, records, origin))
    process.start()
    process.join()
    return process.exitcode == 0


def _run_one(run: Callable, spec, records: Path, origin: dict) -> None:
    """One run, in its own process: one sentence if the person at the keyboard can do something, and where it was otherwise."""
    from private_lora.study.done import mark_done

    end_with_parent()
    try:
        run(spec, records)
        mark_done(origin, records)
        print(f"done: {records}", flush=True)
    except UserError as error:
        sys.exit(f"{spec.run_id}: {error}")
