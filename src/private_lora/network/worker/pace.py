"""Streams that do not move are ended: a client that sends or reads a byte now and then would hold memory for an hour."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from private_lora.network.wire.parts import PART_BYTES
from private_lora.network.worker.limits import Limits
from private_lora.network.worker.metrics import WorkerMetrics

LOOK_S = 0.5


class Stream:
    """One direction of one call, from its first part to its last."""

    def __init__(self, context: grpc.ServicerContext):
        self.context = context
        self.begin = self.last = time.monotonic()
        self.bytes = 0

    def counted(self, parts: Iterator) -> Iterator:
        """The parts, each counted when the next one is asked for."""
        for part in parts:
            yield part
            self.bytes += len(part.data)
            self.last = time.monotonic()


class Paces:
    """All streams that clients move at present, looked at by a thread of its own."""

    def __init__(self, limits: Limits, metrics: WorkerMetrics):
        self._limits, self._metrics = limits, metrics
        self._streams: set[Stream] = set()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        threading.Thread(target=self._look, name="paces", daemon=True).start()

    @contextmanager
    def watched(self, context: grpc.ServicerContext) -> Iterator[Stream]:
        """A stream that has to move from now on."""
        stream = Stream(context)
        with self._lock:
            self._streams.add(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self._streams.discard(stream)

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_S):
            now = time.monotonic()
            with self._lock:
                late = [(stream, limit) for stream in self._streams if (limit := self._broken_by(stream, now))]
                self._streams.difference_update(stream for stream, _ in late)
            for stream, limit in late:
                self._metrics.refused(limit)
                stream.context.cancel()

    def _broken_by(self, stream: Stream, now: float) -> str | None:
        """The limit that a stream is over."""
        if now - stream.last > self._limits.stalled_s:
            return "stalled"
        age = now - stream.begin
        # A part counts when all of it has come.
        is_slow = age > self._limits.grace_s and stream.bytes + PART_BYTES < age * self._limits.bytes_per_s
        return "rate" if is_slow else None
