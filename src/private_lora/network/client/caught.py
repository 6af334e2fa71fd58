"""Workers that were caught: who, over all resumes of a run, and how many bits their lies can have shown them."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from private_lora.core.errors import Interrupted, UserError


@dataclass(frozen=True)
class Lie:
    """What a worker was caught at. worker: `Peer.identity`. run: its id.

    bits: at most so many about the plaintext that the rejection showed: 1 of an answer that was decrypted; 0 of one that was no
    answer whatever is inside, which its sender knew before.
    """

    worker: str
    address: str
    reason: str
    bits: int
    run: str
    date: str

    @classmethod
    def now(cls, worker: str, address: str, reason: str, bits: int, run: str) -> Lie:
        """One that has just been noticed."""
        return cls(worker, address, reason, bits, run, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


class Caught:
    """Lies by worker, the first of each. path: a file, a line of JSON for each, which outlives the process; None: memory.

    Several processes may add to one file. Raises UserError when it is there and cannot be read.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.lies: dict[str, Lie] = {}
        for line in self._lines():
            lie = self._parsed(line)
            self.lies.setdefault(lie.worker, lie)

    def add(self, lie: Lie) -> None:
        """Remember a lie; when this returns, it is on disk. Raises Interrupted when it cannot be written."""
        if lie.worker in self.lies:
            return
        self.lies[lie.worker] = lie
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                # A line of its own, also behind one that a kill cut short.
                os.write(handle, f"\n{json.dumps(asdict(lie))}\n".encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise Interrupted(
                f"worker {lie.address} lied, and {self.path} cannot be written to remember it ({error.strerror}): leave it out "
                "of --workers and run again"
            ) from None

    def bits_shown(self, run: str) -> int:
        """Of all lies in a run, its resumes included."""
        return sum(lie.bits for lie in self.lies.values() if lie.run == run)

    def _lines(self) -> list[str]:
        if self.path is None:
            return []
        try:
            return [line for line in self.path.read_text(errors="replace").splitlines() if line.strip()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror}), which names workers that lied") from None

    def _parsed(self, line: str) -> Lie:
        """One line. What cannot be read may hide a liar, so nobody is asked before a person has looked at it."""
        try:
            return Lie(**json.loads(line))
        except (ValueError, TypeError):
            raise UserError(
                f"{self.path} names workers that lied, and a line of it cannot be read: {line[:80]!r}; mend or remove that line"
            ) from None


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
