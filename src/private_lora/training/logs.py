"""Logs of a run that other tools read while it goes on: JSON lines, and TensorBoard's files (`--log-to`). Imports no torch.

They hold losses of private data, so nobody but the user may read them.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.files import OWNERS_FILE, make_directory
from private_lora.specs.run import RunSpec
from private_lora.training.live import Listener, Step


def logs(wanted: Iterable[str], run_id: str, directory: Path) -> list[Listener]:
    """The logs that `--log-to` asks for, each `kind` or `kind:path`; without a path they are in the run's directory.

    Raises UserError on what is no kind of log, a missing library, and a path that cannot be written or holds something else.
    """
    return [_log(text, run_id, directory) for text in dict.fromkeys(wanted)]


def _log(text: str, run_id: str, directory: Path) -> Listener:
    kind, _, path = text.partition(":")
    match kind:
        case "jsonl":
            return JsonLines(Path(path or directory / "live.jsonl"), run_id)
        case "tensorboard":
            return TensorBoard(Path(path or directory / "tensorboard"))
    raise UserError(f"--log-to takes jsonl, jsonl:FILE, tensorboard or tensorboard:DIRECTORY, not {text!r}")


class JsonLines:
    """A JSON object on each line, flushed. A run that goes on cuts off what it is going to tell again."""

    def __init__(self, path: Path, run_id: str):
        self.path, self._run_id = path, run_id
        try:
            make_directory(path.parent)
            self._file = open(os.open(path, os.O_RDWR | os.O_CREAT, OWNERS_FILE), "r+b")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"--log-to jsonl: cannot write {path}: {error.strerror}") from None
        self._check_owner()
        os.fchmod(self._file.fileno(), OWNERS_FILE)

    def __str__(self) -> str:
        return f"the log {self.path}"

    def _check_owner(self) -> None:
        """A file that is there is overwritten only if it is a log of this run: it might be the user's data."""
        line = self._file.readline()
        known = _told(line)
        if line and known is None:
            raise UserError(f"--log-to jsonl: {self.path} is there and is no log of a run: give another path")
        if known and known["run_id"] != self._run_id:
            raise UserError(
                f"--log-to jsonl: {self.path} is the log of the run {known['run_id']}, not of {self._run_id}: give another path"
            )

    def start(self, spec: RunSpec, first: int) -> None:
        """Keep what was told of the steps before `first`."""
        self._file.seek(0)
        kept = 0
        for line in self._file:
            known = _told(line)
            if known is None or known["step"] >= first:
                break
            kept += len(line)
        self._file.truncate(kept)
        self._file.seek(kept)

    def on_step(self, step: Step) -> None:
        """A line of phase `train`."""
        self._write("train", asdict(step))

    def on_evaluation(self, step: int, values: dict[str, float]) -> None:
        """A line of phase `eval`, with `eval_` before the names of records."""
        self._write("eval", {"step": step} | {f"eval_{name}": value for name, value in values.items()})

    def _write(self, phase: str, values: dict) -> None:
        timestamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        about = {"run_id": self._run_id, "phase": phase, "timestamp": timestamp}
        self._file.write(json.dumps(about | values).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _told(line: bytes) -> dict | None:
    """What a complete line of a log says; None of anything else."""
    try:
        known = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return known if isinstance(known, dict) and {"run_id", "phase", "step"} <= known.keys() else None


class TensorBoard:
    """Scalars for TensorBoard, `train/` and `eval/`. It hides what a run that goes on tells again."""

    def __init__(self, directory: Path):
        self.directory = directory
        if find_spec("tensorboard") is None:
            raise UserError("--log-to tensorboard needs a package that is not installed: pip install 'tensorboard>=2.20,<3'")
        try:
            make_directory(directory)
        except OSError as error:
            raise UserError(f"--log-to tensorboard: cannot write {directory}: {error.strerror}") from None

    def __str__(self) -> str:
        return f"the log {self.directory}"

    def start(self, spec: RunSpec, first: int) -> None:
        """Open a file of its own in the directory, as TensorBoard wants it of every process."""
        from torch.utils.tensorboard import SummaryWriter

        before = os.umask(0o777 - OWNERS_FILE)
        try:
            self._writer = SummaryWriter(str(self.directory), purge_step=first)
        finally:
            os.umask(before)

    def on_step(self, step: Step) -> None:
        """Its scalars."""
        values = {name: value for name, value in asdict(step).items() if value is not None}
        number, _ = values.pop("step"), values.pop("steps")
        self._add("train", number, values)

    def on_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Its scalars."""
        self._add("eval", step, values)

    def _add(self, phase: str, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{phase}/{name}", value, step)
        self._writer.flush()  # a run that is killed must not lose steps that its checkpoint has

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
