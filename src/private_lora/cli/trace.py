"""Commands on records: `trace` goes from a number to what made it, `record` keeps a study's, `convert` rewrites older ones."""

from __future__ import annotations

from pathlib import Path


def add_trace(parser) -> None:
    """Arguments of `trace`."""
    parser.add_argument("table", type=Path, nargs="?", help="a CSV of results/tables or results/figures")
    parser.add_argument("--row", type=int, help="of the table; 1 is the first below the names of columns")
    parser.add_argument("--run", action="append", default=[], metavar="RUN_ID", help="a run by its id; repeatable")
    parser.add_argument("--results", type=Path, help="where the runs are; default: the table's study, or results")
    parser.add_argument("--recorded", type=Path, help="directory of recorded machines; default: results/recorded")
    parser.set_defaults(handler=_trace)


def _trace(args) -> int:
    from private_lora.core.errors import UserError
    from private_lora.core.paths import ROOT
    from private_lora.results import trace

    if (args.table is None) == (not args.run) or (args.table is None) != (args.row is None):
        raise UserError("give a table and --row, or --run with the id of a run")
    run_ids = args.run or trace.runs_of_row(args.table, args.row)
    results = args.results or (trace.results_of(args.table) if args.table else Path("results"))
    if args.table:
        count = f"{len(run_ids)} run{'s' * (len(run_ids) != 1)}"
        print(f"{args.table}, row {args.row} (row 1 is the first below the names of columns): {count}")
    if not run_ids:
        print("No run is behind this row: its values are published ones or come from a formula.")
    found = [_print_run(run_id, results, args.recorded or ROOT / "results" / "recorded") for run_id in run_ids]
    return 0 if all(found) or args.table else 1


def _print_run(run_id: str, results: Path, recorded: Path) -> bool:
    """Whether the run has a sidecar; prints what it says, or that there is none."""
    from private_lora.results.sidecars import find_sidecars
    from private_lora.results.trace import describe

    found = find_sidecars(results, recorded, run_id)
    print(f"\n{run_id}")
    if not found:
        print(f"  There is no sidecar of this run under {results} and none in {recorded}: only its rows were kept.")
    for path, sidecar in found:
        for name, text in describe(run_id, path, sidecar):
            print(f"  {name:12} {text}")
    return bool(found)


def add_record(parser) -> None:
    """Arguments of `record`."""
    parser.add_argument("--results", type=Path, required=True, help="what a study made, with data/ and its runs")
    parser.add_argument("--out", type=Path, required=True, help="directory to keep, such as results/recorded/2-core-xeon")
    parser.set_defaults(handler=_record)


def _record(args) -> int:
    from private_lora.results.records import record

    print(f"{args.out}: {record(args.results, args.out)} runs")
    return 0


def add_convert(parser) -> None:
    """Arguments of `convert`."""
    parser.add_argument(
        "directory",
        type=Path,
        help="with convergence.csv, loopback.csv and so on, of a kind each",
    )
    parser.add_argument(
        "--note", action="append", default=[], metavar="RUN_ID=TEXT", help="what disturbed a run, if that is known; repeatable"
    )
    parser.set_defaults(handler=_convert)


def _convert(args) -> int:
    from private_lora.results.convert import convert, notes_of

    for name, count in convert(args.directory, notes_of(args.note)).items():
        print(f"{args.directory / name}: {count} rows of the present schema")
    return 0
