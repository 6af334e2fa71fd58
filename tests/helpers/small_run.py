"""A run of four steps, what it must come to, and a client that is told at which question something is to happen."""

from __future__ import annotations

import csv
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire.security import Address
from private_lora.training.loop import train
from private_lora.training.preparation import prepare

STEPS = 4
# Questions of a run: evaluation before the first step, two steps, evaluation, two steps, evaluation.
IN_EVALUATION, IN_STEP = 8, 15
QUESTIONS = 3 * IN_EVALUATION + STEPS * IN_STEP
IN_SECOND_STEP = IN_EVALUATION + IN_STEP + 3
# The first is longer than any product takes on a busy machine.
PATIENT, HURRIED, SHORT = Patience(60, 240), Patience(4, 240), Patience(4, 1)
SUPERVISOR_S = 120


class Watched(Workers):
    """Counts questions, and calls `act` when question number `moment` is asked; 0 is the handshake."""

    def __init__(self, connections, patience, moment, act, **options):
        super().__init__(connections, patience, **options)
        self.asked, self._moment, self._act = 0, moment, act
        self._counting = threading.Lock()

    def connect(self, *arguments):
        if self._moment == 0:
            self._act()
        super().connect(*arguments)

    def ask(self, *arguments):
        with self._counting:
            self.asked += 1
            if self.asked == self._moment:
                self._act()
        return super().ask(*arguments)


@contextmanager
def place_of(addresses, patience=PATIENT, moment=None, act=None, rows=None, **options):
    workers = Watched([Connection(address, None) for address in addresses], patience, moment, act, **options)
    place = RemotePlace(workers, Asking(rows_per_question=rows))
    try:
        yield place
    finally:
        place.close()


@dataclass
class Result:
    """What a run must come to, whatever happened on the way. counted: remote products."""

    losses: list[str]
    held_out: list[tuple]
    steps: list[int]
    optimizer_steps: set[int]
    counted: int


def trained(spec, directory, place=None):
    run = prepare(spec, directory, place)
    train(run)
    return run, result_of(run)


def result_of(run):
    losses, held_out = losses_in(run.recorder.rows)
    steps = [row["step"] for row in run.recorder.rows if (row["phase"], row["metric"]) == ("train", "loss")]
    taken = {int(state["step"]) for state in run.optimizer.state.values()}
    return Result(losses, held_out, steps, taken, run.session.counters.products)


def losses_in(rows):
    losses = [str(row["value"]) for row in rows if (row["phase"], row["metric"]) == ("train", "loss")]
    held_out = [(str(r["step"]), r["metric"], str(r["value"])) for r in rows if r["phase"] == "eval"]
    return losses, held_out


def losses_of(path):
    with path.open() as handle:
        return losses_in(list(csv.DictReader(handle)))


def counters_of(place):
    counters = place.counters
    assert counters.round_trips == place._workers.asked  # every question was answered, and once
    assert counters.rejected_answers == 0
    return counters


def one_sentence(error, *parts):
    text = str(error)
    assert "\n" not in text
    assert all(part in text for part in parts), text


def the_checkpoint(directory):
    (path,) = directory.glob("*.pt")
    return torch.load(path, weights_only=True)


def address_of(running):
    return Address("127.0.0.1", running.port)


def command_of(spec, out, checkpoints, address):
    command = [sys.executable, "-m", "private_lora", "finetune", "--spec", json.dumps(spec.to_dict()), "--quiet"]
    command += ["--out", str(out), "--checkpoints", str(checkpoints)]
    return [*command, "--workers", str(address), "--plaintext", "--deadline-s", "60", "--patience-s", "1"]
