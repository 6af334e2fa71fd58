"""The worker process: loads its layers, listens, serves until it is told to stop."""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from private_lora.core.errors import UserError
from private_lora.network.wire.parts import LARGEST_PART
from private_lora.network.wire.protocol_pb2_grpc import add_WorkerServicer_to_server
from private_lora.network.wire.security import Address, Tls, check_plaintext, server_credentials
from private_lora.network.worker.calls import CheckedCalls
from private_lora.network.worker.held import Held, hold
from private_lora.network.worker.limits import Limits
from private_lora.network.worker.metrics import WorkerMetrics
from private_lora.network.worker.pace import Paces
from private_lora.network.worker.quotas import Budget
from private_lora.network.worker.service import WorkerService, identity_of
from private_lora.specs.worker import WorkerSpec

log = logging.getLogger(__name__)
SERVICE = "private_lora.v1.Worker"
# Beside the requests that are limited by themselves: handshakes, goodbyes, health.
SPARE_THREADS = 8
WAITING_CALLS = 4
GRACE_S = 10.0


def server_options(concurrent: int) -> list[tuple]:
    """Of the gRPC server: parts of bounded size, pings of clients that wait for a product, no second worker on the port."""
    return [
        ("grpc.max_receive_message_length", LARGEST_PART),
        ("grpc.max_concurrent_streams", concurrent),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]


@dataclass
class Running:
    """A worker that listens. port: the one it was given, if 0 was asked for."""

    server: grpc.Server
    port: int
    service: WorkerService
    health: health.HealthServicer
    paces: Paces

    def stop(self, grace: float = GRACE_S) -> None:
        """Take no new requests, finish those being served, end."""
        self.health.enter_graceful_shutdown()
        self.server.stop(grace).wait()
        self.paces.stop()


def start(held: Held, address: Address, tls: Tls | None, limits: Limits, metrics: WorkerMetrics | None = None) -> Running:
    """Listen; raises UserError when the address is taken, cannot be had, or would need TLS."""
    check_plaintext(address, tls)
    concurrent = limits.requests + SPARE_THREADS
    pool = ThreadPoolExecutor(concurrent, thread_name_prefix="worker")
    metrics = metrics or WorkerMetrics()
    budget, paces = Budget(limits, concurrent), Paces(limits, metrics)
    service = WorkerService(held, limits, metrics, budget, paces)
    checks = CheckedCalls(limits.deadline_s, metrics, budget, paces, functools.partial(_is_revoked, tls, service))
    # Calls over a client's quota need a thread for the moment of their refusal: they wait for it.
    waiting = WAITING_CALLS * concurrent
    server = grpc.server(pool, None, [checks], server_options(concurrent), maximum_concurrent_rpcs=waiting)
    add_WorkerServicer_to_server(service, server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    credentials = server_credentials(tls)
    try:
        add = server.add_insecure_port if credentials is None else server.add_secure_port
        port = add(str(address), *([] if credentials is None else [credentials]))
    except RuntimeError as error:
        raise UserError(f"cannot listen on {address}: {_reason(error)}") from None
    server.start()
    for name in ("", SERVICE):
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    return Running(server, port, service, healthy, paces)


def _is_revoked(tls: Tls | None, service: WorkerService, context: grpc.ServicerContext) -> bool:
    """Whether a call is by a client whose certificate was revoked; its sessions are ended then."""
    certificate = context.auth_context().get("x509_pem_cert")
    if tls is None or not certificate or not tls.is_revoked(certificate[0]):
        return False
    service.sessions.end_of(identity_of(context))
    return True


def _reason(error: RuntimeError) -> str:
    return (
        "the certificate and key do not fit" if "cred" in str(error).lower() else "the address is taken or not this machine's"
    )


def serve(spec: WorkerSpec, address: Address, tls: Tls | None, limits: Limits, metrics_at: Address | None) -> None:
    """Load, listen and serve until SIGTERM or SIGINT. Prints `listening on host:port` on standard output when ready."""
    check_plaintext(address, tls)
    if metrics_at is not None:
        check_plaintext(metrics_at, tls)
    begin = time.perf_counter()
    held = hold(spec, progress=lambda name: log.info("holding %s", name))
    log.info("%d products of %s ready in %.1f s", len(held.products), spec.model, time.perf_counter() - begin)
    metrics = WorkerMetrics()
    running = start(held, address, tls, limits, metrics)
    if metrics_at is not None:
        files = None if metrics_at.is_loopback else _https(tls)
        metrics.serve(metrics_at.host, metrics_at.port, files)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print(f"listening on {Address(address.host, running.port)}", flush=True)
    stop.wait()
    log.info("stopping")
    running.stop()


def _https(tls: Tls) -> dict:
    """Metrics that leave the machine are for holders of the clients' certificates only."""
    return {"certfile": str(tls.certificate), "keyfile": str(tls.key), "client_cafile": str(tls.authority)}
