"""Several runs in one process, for the workflow: `--spec A B C --runs DIRECTORY`. Imports nothing heavy."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.memory import forget_peak_memory


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


def run_all(args, kind: type, run: Callable) -> int:
    """Exit status after run(spec, records) for every spec whose records are not there already, each all or nothing.

    Nothing of a run is left to the next one but what the process has imported and compiled. One that fails does not keep the
    others from running; then `--out` is not written.
    """
    from private_lora.results.recorder import collect
    from private_lora.study.done import is_done, mark_done

    specs = [kind.from_json(text) for text in args.spec]
    records = {spec.run_id: args.runs / spec.run_id / "records.csv" for spec in specs}
    failed = []
    for spec in specs:
        path = records[spec.run_id]
        if is_done(spec, path):
            print(f"done before: {path}", flush=True)
            continue
        path.unlink(missing_ok=True)
        forget_peak_memory()
        try:
            run(spec, path)
            mark_done(spec, path)
            print(f"done: {path}", flush=True)
        except Exception as error:
            failed.append(spec.run_id)
            _report(spec.run_id, error)
    if failed:
        raise UserError(f"{len(failed)} of {len(specs)} runs failed, the others are kept: {', '.join(failed)}")
    collect(list(records.values()), args.out)
    return 0


def _report(run_id: str, error: Exception) -> None:
    """One sentence where the person at the keyboard can do something, and where it happened otherwise."""
    if not isinstance(error, UserError):
        traceback.print_exception(error)
    print(f"{run_id}: {error}", file=sys.stderr, flush=True)
