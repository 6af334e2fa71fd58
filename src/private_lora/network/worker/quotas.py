"""What clients share: nobody, however greedy, holds so much of it that the next one finds nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from private_lora.network.worker.limits import Limits, Refusal


class Quota:
    """An amount of something. No client may hold more than is left for the others, but each may have something.

    So one client gets a half, two get a third each, and so on (dynamic thresholds: Choudhury and Hahne, 1998).
    """

    def __init__(self, limit: str, total: int, unit: str):
        self._limit, self._total, self._unit = limit, total, unit
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """By all clients together."""
        return self._held.total()

    def take(self, client: str, amount: int = 1) -> None:
        """Count an amount as a client's; raises Refusal when there is not enough, or not for this client."""
        with self._lock:
            own, left = self._held[client], self._total - self.held - amount
            if left < 0:
                raise self._refusal(
                    f"no room for {amount} more {self._unit} at present: {self.held} of {self._total} are taken"
                )
            if own and own + amount > left:
                raise self._refusal(f"this client has {own} {self._unit} already: {amount} more leave too few to others")
            self._held[client] += amount

    def give_back(self, client: str, amount: int = 1) -> None:
        """What `take` counted, or a part of it."""
        with self._lock:
            self._held[client] -= amount
            if not self._held[client]:
                del self._held[client]

    @contextmanager
    def taken(self, client: str, amount: int = 1) -> Iterator[Share]:
        """An amount while something is done; raises Refusal as `take` does."""
        self.take(client, amount)
        share = Share(self, client, amount)
        try:
            yield share
        finally:
            share.shrink(0)

    def _refusal(self, reason: str) -> Refusal:
        return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, self._limit)


class Share:
    """What one request holds."""

    def __init__(self, quota: Quota, client: str, amount: int):
        self._quota, self._client, self._amount = quota, client, amount

    def shrink(self, amount: int) -> None:
        """Keep only so much of it."""
        freed, self._amount = self._amount - amount, amount
        self._quota.give_back(self._client, freed)


class RefusalRate:
    """Refusals wait, so that a client who sends nothing but bad messages takes no time from the products of others.

    Each client has so many at once and so many a second after that (a leaky bucket by its next time: ITU-T I.371, GCRA).
    Whoever waits keeps the place of his call, so that no more wait than a client may make calls, and none of them for long.
    """

    def __init__(self, limits: Limits):
        self._interval_s = 1 / limits.refusals_per_s
        self._ahead_s = limits.refusals_at_once * self._interval_s
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def delay_s(self, client: str, now: float) -> float:
        """Count a refusal; seconds from now until the client may know of it."""
        with self._lock:
            self._next = {c: at for c, at in self._next.items() if at > now - self._ahead_s}
            due = self._next.get(client, now - self._ahead_s) + self._interval_s
            self._next[client] = due
        return max(0.0, due - now)

    def wait(self, client: str) -> None:
        """Return when the client may know of one more refusal."""
        time.sleep(self.delay_s(client, time.monotonic()))


class Budget:
    """What requests take of a worker: places among calls and products, memory, and refusals."""

    def __init__(self, limits: Limits, calls: int):
        self.calls = Quota("calls", calls, "calls")
        self.products = Quota("requests", limits.requests, "requests")
        self.memory = Quota("memory", limits.memory_bytes, "bytes")
        self.refusals = RefusalRate(limits)

    @property
    def requests(self) -> int:
        """Being served now."""
        return self.products.held

    @property
    def bytes(self) -> int:
        """Reserved now."""
        return self.memory.held
