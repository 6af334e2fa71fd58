"""What clients share: nobody, however greedy, holds so much of it that the next one finds nothing."""

from __future__ import annotations

import threading
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


class Budget:
    """What requests take of a worker: places among calls and products, and memory."""

    def __init__(self, limits: Limits, calls: int):
        self.calls = Quota("calls", calls, "calls")
        self.products = Quota("requests", limits.requests, "requests")
        self.memory = Quota("memory", limits.memory_bytes, "bytes")

    @property
    def requests(self) -> int:
        """Being served now."""
        return self.products.held

    @property
    def bytes(self) -> int:
        """Reserved now."""
        return self.memory.held
