"""Whose product is multiplied next: one at a time, because it takes all cores, and the cores are shared by time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from private_lora.network.worker.limits import Refusal

POLL_S = 0.5


class Turns:
    """The turn goes to the client, of those who wait, whose turns have taken the least time; of his requests, to the first."""

    def __init__(self):
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[object]] = {}
        self._used_s: dict[str, float] = {}
        self._is_taken = False

    @contextmanager
    def turn(self, client: str, is_wanted: Callable[[], bool]) -> Iterator[None]:
        """The right to multiply; raises Refusal when nobody wants the answer any more."""
        self._wait(client, is_wanted)
        begin = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._used_s[client] += time.monotonic() - begin
                self._forget()
                self._changed.notify_all()

    def _wait(self, client: str, is_wanted: Callable[[], bool]) -> None:
        ticket = object()
        with self._changed:
            # Who comes back after a while has saved up nothing.
            others = [self._used_s[other] for other in self._waiting]
            self._used_s[client] = max(self._used_s.get(client, 0.0), min(others, default=0.0))
            queue = self._waiting.setdefault(client, deque())
            queue.append(ticket)
            try:
                while self._is_taken or self._next() is not ticket:
                    if not self._changed.wait(POLL_S) and not is_wanted():
                        raise Refusal(grpc.StatusCode.CANCELLED, "the client went away")
                self._is_taken = True
            finally:
                queue.remove(ticket)
                if not queue:
                    del self._waiting[client]
                self._changed.notify_all()

    def _next(self) -> object:
        return self._waiting[min(self._waiting, key=self._used_s.__getitem__)][0]

    def _forget(self) -> None:
        """Times of clients who cannot be behind anybody: as many as there have been certificates would be too many."""
        least = min((self._used_s[client] for client in self._waiting), default=float("inf"))
        self._used_s = {c: used for c, used in self._used_s.items() if c in self._waiting or used > least}
