"""The worker's side of the protocol: sessions, limits, encrypted products. A refusal is a status, and the worker lives on."""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import grpc

from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import REQUEST_ID_BYTES, BrokenStream, parts_of, read_data, read_header
from private_lora.network.wire.protocol_pb2_grpc import WorkerServicer
from private_lora.network.wire.settings import PROTOCOL_VERSION
from private_lora.network.worker.held import Held, HeldProduct
from private_lora.network.worker.metrics import WorkerMetrics
from private_lora.network.worker.sessions import Budget, ClientSession, Limits, Refusal, Sessions
from private_lora.split.stopwatch import Stopwatch

log = logging.getLogger(__name__)
POLL_S = 0.5


@dataclass(frozen=True)
class Request:
    """A question that was read."""

    session: ClientSession
    product: HeldProduct
    data: bytearray


def identity_of(context: grpc.ServicerContext) -> str:
    """Of the client: its certificate's digest, or `plaintext` where nobody has one."""
    certificate = context.auth_context().get("x509_pem_cert")
    return hashlib.sha256(certificate[0]).hexdigest() if certificate else "plaintext"


def _answering(method):
    """Turn what a unary method raises into a status; nothing else may come out of it, lest a thread be lost."""

    @functools.wraps(method)
    def wrapped(self, request, context):
        with self.metrics.request(method.__name__) as outcome:
            try:
                return method(self, request, context)
            except BaseException as error:
                outcome.code, reason = _status(error)
        context.abort(outcome.code, reason)

    return wrapped


def _streaming(method):
    """The same for a method that yields its answer; it aborts only before its first part."""

    @functools.wraps(method)
    def wrapped(self, request, context):
        with self.metrics.request(method.__name__) as outcome:
            try:
                yield from method(self, request, context)
                return
            except GeneratorExit:  # the client went away before it had the whole answer
                outcome.code = grpc.StatusCode.CANCELLED
                raise
            except BaseException as error:
                outcome.code, reason = _status(error)
        context.abort(outcome.code, reason)

    return wrapped


def _status(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Status and sentence for whatever went wrong. A panic in native code is no Exception, and no reason to stop."""
    if isinstance(error, Refusal):
        return error.code, error.reason
    if isinstance(error, BrokenStream):
        return grpc.StatusCode.INVALID_ARGUMENT, str(error)
    if isinstance(error, MemoryError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory for this message at present"
    if isinstance(error, grpc.RpcError):
        return grpc.StatusCode.CANCELLED, "the client went away"
    log.error("a request failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, "the worker failed on this message; its log says how"


class WorkerService(WorkerServicer):
    """What a worker answers. One product is multiplied at a time: it takes all cores."""

    def __init__(self, held: Held, limits: Limits, metrics: WorkerMetrics):
        self.held, self.limits, self.metrics = held, limits, metrics
        self.sessions = Sessions(limits, held.release)
        self.budget = Budget(limits)
        self._turn = threading.Lock()
        metrics.watch(self)

    @_answering
    def Open(self, request, context):
        if request.protocol_version != PROTOCOL_VERSION:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this worker speaks protocol version {PROTOCOL_VERSION} and the client version {request.protocol_version}: "
                "both sides need the same version of private_lora",
            )
        products = self.held.products.values()
        return messages.Welcome(
            protocol_version=PROTOCOL_VERSION,
            session_id=self.sessions.open(identity_of(context)),
            settings=self.held.settings.message(),
            products=[messages.Product(name=p.name, weight_sha256=p.weight_sha256, plan=p.plan) for p in products],
            largest_message=self.limits.message_bytes,
            longest_deadline_s=self.limits.deadline_s,
        )

    @_answering
    def Accept(self, request, context):
        with self.budget.request():
            header = read_header(request)
            session = self.sessions.find(header.session_id, identity_of(context))
            with session.serving(), self.budget.reserved(header.size):
                data = read_data(request, header.size)
                self.metrics.received(len(data))
                with self._my_turn(context):
                    material = self._parsed(self.held.backend.public_material_from_bytes, data)
                    self.held.release(session.material)
                    session.material = material
                    self.held.accept(material)
        return messages.Accepted()

    @_streaming
    def Multiply(self, request, context):
        with self.budget.request():
            header = read_header(request)
            session = self.sessions.find(header.session_id, identity_of(context))
            with session.serving(), self.budget.reserved(header.size):
                question = self._question(session, header, request)
                with self._my_turn(context):
                    answer, work = self._multiplied(question)
                del question
            with self.budget.reserved(len(answer)):
                self.metrics.answered(len(answer), work.seconds)
                yield from parts_of(answer, work=work)

    @_answering
    def Close(self, request, context):
        self.sessions.close(request.session_id, identity_of(context))
        return messages.Closed()

    def _question(self, session: ClientSession, header, parts: Iterator) -> Request:
        product = self.held.products.get(header.product)
        if product is None:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "this worker holds no product of that name")
        if len(header.request_id) != REQUEST_ID_BYTES:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"a request id has {REQUEST_ID_BYTES} bytes")
        data = read_data(parts, header.size)
        self.metrics.received(len(data))
        session.note(header.request_id, data, self.limits.repeats)
        return Request(session, product, data)

    def _multiplied(self, request: Request) -> tuple[bytes, messages.Work]:
        """The answer's bytes, and what was done for it; the same question gives the same bytes."""
        server, watch = request.product.server, Stopwatch()
        before = replace(server.counters)
        message = self._parsed(self.held.backend.ciphertext_from_bytes, request.data)
        self._check_material(request.session, message)
        answer = self._parsed(server.matmul, message).to_bytes()
        done = server.counters
        return answer, messages.Work(
            seconds=watch.lap(),
            products=done.products - before.products,
            encrypted_products=done.encrypted_products - before.encrypted_products,
            int8_operations=done.int8_operations - before.int8_operations,
        )

    def _check_material(self, session: ClientSession, message) -> None:
        """Nothing; raises Refusal when a message needs public material that is not its own session's."""
        key_id = getattr(message, "key_id", None)
        if key_id is not None and (session.material is None or session.material.key_id != key_id):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "this session sent no public material for the message's key")

    @staticmethod
    def _parsed(parse, data):
        """parse(data); a ValueError is the sender's mistake."""
        try:
            return parse(data)
        except ValueError as error:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None

    def _my_turn(self, context):
        """The right to multiply; given up when the client no longer waits."""
        return _Turn(self._turn, context)


class _Turn:
    """A lock that stops waiting when nobody wants the answer any more."""

    def __init__(self, lock: threading.Lock, context):
        self._lock, self._context = lock, context

    def __enter__(self):
        while not self._lock.acquire(timeout=POLL_S):
            if not self._context.is_active():
                raise Refusal(grpc.StatusCode.CANCELLED, "the client went away")

    def __exit__(self, *_):
        self._lock.release()
