"""Commands on records: `convert` rewrites them in the present schema."""

from __future__ import annotations

from pathlib import Path


def add_convert(parser) -> None:
    """Arguments of `convert`."""
    parser.add_argument("directory", type=Path, help="with convergence.csv, loopback.csv, layer.csv or block.csv")
    parser.add_argument(
        "--note", action="append", default=[], metavar="RUN_ID=TEXT", help="what disturbed a run, if that is known; repeatable"
    )
    parser.set_defaults(handler=_convert)


def _convert(args) -> int:
    from private_lora.results.convert import convert, notes_of

    for name, count in convert(args.directory, notes_of(args.note)).items():
        print(f"{args.directory / name}: {count} rows of the present schema")
    return 0
