"""Runs through a worker whose client, or whose worker, is killed at random moments, and what must hold afterwards, counted.

    python killed_runs.py DIRECTORY WHO MASK KILLS SEED      (WHO: client or worker; MASK: session or fresh)

Client and worker are processes of `private-lora finetune` and `private-lora worker`, over mutual TLS. They are forked from one
that has imported the libraries, because a life is short. A client appends to a file, before each use, `q` for a question and
`p PAIR` for a mask with a secret, as digests. Prints counts as JSON; ends with 1 if anything is not as it must be.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import re
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from small_run import losses_of

from private_lora.backends.packed import exact, session
from private_lora.cli.batch import TRAINING_IMPORTS
from private_lora.cli.main import main as private_lora
from private_lora.crypto import pads

STEPS = 20
TRAINING = f"--data math_problems --steps {STEPS} --warmup-steps 1 --batch-size 1 --sequence-length 32 --train-examples 40"
TRAINING += " --eval-examples 1 --eval-every 10 --generate-examples 0 --checkpoint-every 1 --patience-s 240"
# Seconds within which a life that does something ends; longer than a whole run, so that some complete.
LONGEST_LIFE_S = {"session": 5.0, "fresh": 10.0}
# Of lives, those that end before their first question, and how soon.
EARLY, EARLY_S = 0.15, 1.5
STUCK_S = 240.0
OTHERS = 0o077
_NAMES = re.compile(r"[0-9a-f]{16,}|(?<=run-)\d+")  # many files of one kind are shown once


def record_pairs(path: Path) -> None:
    """From now on, this process appends its questions and pairs to a file."""
    out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    make, slots, rows = pads.Pad.__init__, session.encrypt_slots, exact.encrypt_rows

    def pairs(mask: bytes, secrets) -> None:
        lines = [f"p {hashlib.sha256(mask + secret.tobytes()).hexdigest()}\n" for secret in secrets]
        os.write(out, "".join(lines).encode())

    def pad(self, mask_key, inputs, secrets, *rest):
        pairs(mask_key, secrets)
        make(self, mask_key, inputs, secrets, *rest)

    def of_session(*arguments):
        os.write(out, b"q\n")
        return slots(*arguments)

    def fresh(x, delta, mask_seed, secrets, *rest):
        pairs(mask_seed, secrets)
        os.write(out, b"q\n")
        return rows(x, delta, mask_seed, secrets, *rest)

    pads.Pad.__init__, session.encrypt_slots, exact.encrypt_rows = pad, of_session, fresh


class Trial:
    """One client and one worker at a time, in one directory; `chance` says when one of them dies."""

    def __init__(self, directory: Path, who: str, mask: str, seed: int):
        directory.mkdir(mode=0o700, parents=True)
        self.directory, self.who, self.mask = directory, who, mask
        self.pairs, self._log = directory / "pairs", directory / "log"
        self.pairs.touch(0o600)
        self.kills, self.lives, self.runs, self.open_to_others = 0, 0, 0, set()
        self._chance, self._worker = random.Random(f"{seed} {who} {mask}"), 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        options = json.dumps({"mask": mask})
        hold = "--model nano --backend packed --activation-bits 8 --weight-bits 8".split()
        self._hold = [*hold, "--backend-options", options]
        self._certificates = directory / "certificates"
        assert private_lora(["certs", "--out", str(self._certificates)]) == 0

    def _tls(self, own: str, other: str) -> list[str]:
        made = self._certificates
        return [
            "--tls-cert",
            f"{made}/{own}.pem",
            "--tls-key",
            f"{made}/{own}-key.pem",
            f"--{other}-ca",
            f"{made}/{other}-ca.pem",
        ]

    def _forked(self, arguments: list[str], records: bool) -> int:
        """The id of a process of a command, whose output goes to the log."""
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if records:
                record_pairs(self.pairs)
            code = private_lora(arguments)
        finally:
            os._exit(code)

    def client(self, out: Path) -> int:
        """A life of a run's client."""
        self.lives += 1
        hints = self.directory / "hints"
        command = ["finetune", *self._hold, *TRAINING.split(), "--out", str(out), "--hints", str(hints)]
        return self._forked([*command, "--workers", self._address, *self._tls("client", "worker")], records=True)

    def start_worker(self) -> None:
        """One that replaces the last."""
        command = ["worker", *self._hold, "--listen", self._address, *self._tls("worker", "client")]
        self._worker = self._forked(command, records=False)

    def stop_worker(self) -> None:
        """SIGKILL, whatever it does."""
        os.kill(self._worker, signal.SIGKILL)
        os.waitpid(self._worker, 0)

    def _listens(self) -> bool:
        host, port = self._address.split(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def run(self, name: str, kills: int) -> tuple:
        """Losses of one run that is completed, whatever is killed on the way; the total of kills does not pass `kills`."""
        out = self.directory / name
        client, end = self.client(out), time.monotonic() + STUCK_S
        while True:
            moment = self._moment(client, kills) if self.kills < kills else None
            if self.kills == kills or moment is None:
                break
            if self.who == "worker":
                self.stop_worker()
                self.start_worker()
            else:
                os.kill(client, signal.SIGKILL)
                os.waitpid(client, 0)
                client = self.client(out)
            self.kills += 1
            self.look_at_modes()
            end = time.monotonic() + STUCK_S
        while not self._has_ended(client):
            assert time.monotonic() < end, "the client is stuck"
            time.sleep(0.05)
        self.runs += 1
        self.look_at_modes()
        return losses_of(out / "records.csv")

    def _moment(self, client: int, kills: int) -> float | None:
        """Wait for the moment of the next kill; None if the client completed its run before."""
        early = self._chance.random() < EARLY
        asked, end = self.questions(), time.monotonic() + STUCK_S
        # A worker that just began to listen has shown nothing yet; a client has when it asked a question.
        while not early and (self.questions() == asked or not self._listens()):
            assert time.monotonic() < end, "nobody asks anything"
            if self._has_ended(client):
                return None
            time.sleep(0.05)
        delay = self._chance.uniform(0, EARLY_S if early else LONGEST_LIFE_S[self.mask])
        moment = time.monotonic() + delay
        while time.monotonic() < moment:
            if self._has_ended(client):
                return None
            time.sleep(min(0.02, delay))
        return None if self._has_ended(client) else delay

    @staticmethod
    def _has_ended(client: int) -> bool:
        """Whether the client ended by itself; it must not have failed. It stays to be waited for."""
        ended = os.waitid(os.P_PID, client, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert ended is None or (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0), f"the client ended with {ended}"
        return ended is not None

    def questions(self) -> int:
        """A number that grows with every question."""
        return self.pairs.stat().st_size

    def look_at_modes(self) -> None:
        """Note files and directories that others of this machine may open."""
        for path in (self.directory, *self.directory.rglob("*")):
            with suppress(FileNotFoundError):  # a temporary one
                if path.lstat().st_mode & OTHERS:
                    self.open_to_others.add(_NAMES.sub("*", str(path.relative_to(self.directory))))


def tried(directory: Path, who: str, mask: str, kills: int, seed: int = 0) -> dict:
    """Everything that was counted. Losses are compared as they were written, which is to the last bit."""
    trial, losses = Trial(directory, who, mask, seed), []
    trial.start_worker()
    try:
        undisturbed = trial.run("undisturbed", 0)
        while trial.kills < kills:
            losses.append(trial.run(f"run-{trial.runs}", kills))
    finally:
        trial.stop_worker()
    lines = trial.pairs.read_text().splitlines()
    pairs = [line for line in lines if line.startswith("p")]
    steps = [len(curve) for curve, _ in (undisturbed, *losses)]
    return {
        "who": who,
        "mask": mask,
        "kills": trial.kills,
        "lives_of_clients": trial.lives,
        "runs": len(losses),
        "runs_that_differ": sum(one != undisturbed for one in losses),
        "losses_compared": sum(len(curve) + len(held_out) for curve, held_out in losses),
        "whole": set(steps) == {STEPS},
        "final_loss": undisturbed[0][-1],
        "questions": lines.count("q"),
        "pairs": len(pairs),
        "pairs_twice": len(pairs) - len(set(pairs)),
        "open_to_others": sorted(trial.open_to_others),
    }


def preload() -> None:
    """Import what every life needs. Nothing that starts a thread: processes are forked from this one."""
    for name in TRAINING_IMPORTS:
        importlib.import_module(name)
    os.umask(0o022)  # the usual one, which leaves files readable by others unless somebody sees to it


def main(directory, who, mask, kills, seed) -> int:
    preload()
    done = tried(Path(directory), who, mask, int(kills), int(seed))
    print(json.dumps(done))
    as_it_must_be = done["whole"] and done["runs"] and done["pairs"]
    return int(not as_it_must_be or bool(done["runs_that_differ"] or done["pairs_twice"] or done["open_to_others"]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
