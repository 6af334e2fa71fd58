"""What a run tells while it goes on: every step and every evaluation, to whoever listens.

Listeners get numbers that the loop has anyway and can change none of them, so they are no part of a run's spec. Imports no
torch.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from tqdm import tqdm

from private_lora.specs.run import RunSpec

log = logging.getLogger(__name__)

RECENT_STEPS = 20  # whose mean duration is expected of those that are left
BAR_S = 0.5  # between two pictures of a terminal
LINE_S = 30.0  # between two lines of a log


@dataclass(frozen=True)
class Step:
    """A training step that is done, counted from 1 to `steps`.

    loss: of the step's batch, nats per predicted token. grad_norm: before clipping. step_time_s: as it is recorded, evaluations
    and logs apart. tokens: of the batch, padding apart. time_left_s: what the last steps took, evaluations included, times the
    steps that are left.

    The others are the session's counters: sums since the first step of the run, evaluations included, also if it was
    interrupted. upload_bytes and download_bytes: of ciphertexts, whether they cross a network or not. sent_bytes and
    received_bytes: of all messages to workers and from them; None without workers. All are None for a backend that trains by
    itself, which counts at the end.
    """

    step: int
    steps: int
    loss: float
    grad_norm: float
    learning_rate: float
    step_time_s: float
    tokens: int
    tokens_per_s: float
    time_left_s: float
    remote_products: int | None = None
    encrypted_products: int | None = None
    upload_bytes: int | None = None
    download_bytes: int | None = None
    sent_bytes: int | None = None
    received_bytes: int | None = None

    def __str__(self) -> str:
        """What fits into a line; what matters most comes first, because a terminal may be narrow."""
        parts = [f"loss {self.loss:.3f}", f"{_duration(self.time_left_s)} left", f"{self.tokens_per_s:,.0f} tokens/s"]
        if self.remote_products is not None:
            parts += [f"{self.upload_bytes / 1e6:,.1f} MB up", f"{self.download_bytes / 1e6:,.1f} MB down"]
            parts += [f"{self.encrypted_products:,} of {self.remote_products:,} products encrypted"]
        return ", ".join(parts)


class Listener(Protocol):
    """Somebody who is told how a run goes. An OSError ends the telling and not the run."""

    def start(self, spec: RunSpec, first: int) -> None:
        """A run begins, or goes on: it tells of the steps from `first` on, also if it told of them before it was killed."""

    def on_step(self, step: Step) -> None:
        """A training step is done."""

    def on_evaluation(self, step: int, values: dict[str, float]) -> None:
        """An evaluation after so many steps is done; values: by the names that records have."""

    def close(self) -> None:
        """The run has ended, well or not."""


class Live:
    """Tells listeners what happens in a run (a `preparation.Run`)."""

    def __init__(self, listeners: Iterable[Listener] = ()):
        self._listeners = list(listeners)
        self._durations: deque[float] = deque(maxlen=RECENT_STEPS)
        self._tokens, self._last = 0, 0.0

    def start(self, run) -> None:
        """Training begins, or goes on from a checkpoint."""
        self._tokens, self._last = run.train_tokens, time.monotonic()
        is_new = run.step == 0 and not run.recorder.rows
        self._tell("start", run.spec, 0 if is_new else run.step + 1)

    def on_step(self, run, loss: float, grad_norm: float, learning_rate: float, seconds: float) -> None:
        """A step was recorded."""
        if not self._listeners:
            return
        tokens, now = run.train_tokens - self._tokens, time.monotonic()
        self._durations.append(now - self._last)
        self._tokens, self._last = run.train_tokens, now
        left = (run.spec.steps - run.step) * sum(self._durations) / len(self._durations)
        measured = loss, grad_norm, learning_rate, seconds, tokens, tokens / seconds, left
        self._tell("on_step", Step(run.step, run.spec.steps, *measured, **_counted(run)))

    def on_evaluation(self, run, rows: Iterable[tuple[str, float, str]]) -> None:
        """Rows (name, value, unit) of an evaluation were recorded."""
        if run.step == 0:
            self._last = time.monotonic()  # it is not part of the first step
        self._tell("on_evaluation", run.step, {name: float(value) for name, value, _ in rows})

    def close(self) -> None:
        """Nothing more will be told."""
        self._tell("close")

    def _tell(self, what: str, *arguments) -> None:
        for listener in list(self._listeners):
            try:
                getattr(listener, what)(*arguments)
            except OSError as error:
                # A full disk, say: a run is worth more than its log.
                warnings.warn(f"{listener} cannot go on and is left: {error}", stacklevel=3)
                self._listeners.remove(listener)


def _counted(run) -> dict[str, int]:
    """What the session has counted so far."""
    if run.session is None:
        return {}
    counters = run.session.counters
    known = {
        "remote_products": counters.products,
        "encrypted_products": counters.encrypted_products,
        "upload_bytes": counters.upload_ciphertext_bytes,
        "download_bytes": counters.download_ciphertext_bytes,
    }
    if run.session.place.is_local:
        return known
    return known | {"sent_bytes": counters.sent_bytes, "received_bytes": counters.received_bytes}


def progress() -> Listener:
    """One line that is kept up to date on a terminal, a line now and then in a log."""
    has_width = sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    return Bar() if has_width else Lines()


class Bar:
    """A line of a terminal."""

    def start(self, spec: RunSpec, first: int) -> None:
        """Draw it: the first evaluation may take long."""
        self._bar = tqdm(
            total=spec.steps,
            initial=max(0, first - 1),
            desc=spec.run_id,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar:10}{postfix}",
            mininterval=BAR_S,
            miniters=1,
            dynamic_ncols=True,
        )

    def on_step(self, step: Step) -> None:
        """Bring it up to date, unless that was done just now."""
        self._bar.set_postfix_str(str(step), refresh=False)
        self._bar.update()

    def on_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Not shown."""

    def close(self) -> None:
        """Leave it as it is."""
        self._bar.close()


class Lines:
    """Lines of a log: the first step, one now and then, the last one, and every evaluation."""

    def start(self, spec: RunSpec, first: int) -> None:
        """Nothing to say yet."""
        self._name, self._next = spec.run_id, 0.0

    def on_step(self, step: Step) -> None:
        """A line, if it is time for one."""
        if time.monotonic() >= self._next or step.step == step.steps:
            self._next = time.monotonic() + LINE_S
            log.info("%s step %d/%d: %s", self._name, step.step, step.steps, step)

    def on_evaluation(self, step: int, values: dict[str, float]) -> None:
        """A line."""
        known = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if name in ("loss", "exact_match"))
        log.info("%s evaluation after step %d: %s", self._name, step, known)

    def close(self) -> None:
        """Nothing to say."""


def _duration(seconds: float) -> str:
    """Hours and minutes, or minutes, or seconds."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
