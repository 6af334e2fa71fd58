"""What a worker counts, for Prometheus. Sizes, times and statuses of messages; nothing of what is in them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

PREFIX = "private_lora_worker"


@dataclass
class Outcome:
    """How a request ended."""

    code: grpc.StatusCode = grpc.StatusCode.OK


class WorkerMetrics:
    """Counters of one worker, in a registry of its own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            f"{PREFIX}_requests", "Requests by method and status", ["method", "code"], registry=self.registry
        )
        self._refused = Counter(
            f"{PREFIX}_refusals", "Requests that were refused or ended by a limit", ["limit"], registry=self.registry
        )
        self._received = Counter(f"{PREFIX}_received_bytes", "Bytes of messages that were read", registry=self.registry)
        self._sent = Counter(f"{PREFIX}_sent_bytes", "Bytes of answers", registry=self.registry)
        self._seconds = Histogram(
            f"{PREFIX}_product_seconds",
            "Time of one product, parsing and serialization included",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            registry=self.registry,
        )

    def watch(self, service) -> None:
        """Show a service's present state too: sessions, requests, bytes in memory, products."""
        for name, text, value in (
            ("sessions", "Sessions that are open", lambda: len(service.sessions)),
            ("requests_now", "Requests being served", lambda: service.budget.requests),
            ("message_memory_bytes", "Bytes reserved for messages and the work on them", lambda: service.budget.bytes),
            ("products", "Products that this worker holds", lambda: len(service.held.products)),
        ):
            Gauge(f"{PREFIX}_{name}", text, registry=self.registry).set_function(value)

    @contextmanager
    def request(self, method: str):
        """Count one request by the outcome that is filled in meanwhile."""
        outcome = Outcome()
        try:
            yield outcome
        finally:
            self._requests.labels(method, outcome.code.name).inc()

    def refused(self, limit: str | None) -> None:
        """Count a request that was refused or ended by a limit; None is of those that were for other reasons."""
        if limit is not None:
            self._refused.labels(limit).inc()

    def received(self, size: int) -> None:
        """Count a message that was read."""
        self._received.inc(size)

    def answered(self, size: int, seconds: float) -> None:
        """Count an answer and the time it took."""
        self._sent.inc(size)
        self._seconds.observe(seconds)

    def serve(self, host: str, port: int, tls: dict | None):
        """Answer HTTP(S) requests for the metrics in a thread; tls: `certfile`, `keyfile`, `client_cafile`."""
        extra = tls | {"client_auth_required": True} if tls else {}
        return start_http_server(port, host, self.registry, **extra)
