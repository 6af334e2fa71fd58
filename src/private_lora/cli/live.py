"""What a run shows and logs while it goes on: `--quiet`, `--log-to`. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.errors import UserError


def add_live(parser) -> None:
    """Arguments of commands that fine-tune."""
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.add_argument(
        "--log-to",
        action="append",
        default=[],
        metavar="KIND[:PATH]",
        help="jsonl[:FILE] or tensorboard[:DIRECTORY], while it runs; may be repeated; default paths are beside the records",
    )


def check_live(args) -> None:
    """Nothing; raises UserError when several runs are to write into one log."""
    shared = [text for text in args.log_to if ":" in text] if args.runs else []
    if shared:
        raise UserError(f"--log-to {shared[0]}: with --runs each run has its own log beside its records: leave out the path")


def listeners_of(args, run_id: str, out: Path) -> list:
    """Who is told of a run whose records are `out`; raises UserError on a log that cannot be written."""
    from private_lora.training.live import progress
    from private_lora.training.logs import logs

    return ([] if args.quiet else [progress()]) + logs(args.log_to, run_id, out.parent)
