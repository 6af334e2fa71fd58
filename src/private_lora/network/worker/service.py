"""The worker's side of the protocol: sessions, limits, encrypted products. A refusal is a status, and the worker lives on."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import grpc

from private_lora.backends.contract import Cost
from private_lora.core.errors import UserError
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import REQUEST_ID_BYTES, BrokenStream, parts_of, read_data, read_header
from private_lora.network.wire.protocol_pb2_grpc import WorkerServicer
from private_lora.network.wire.settings import PROTOCOL_VERSION
from private_lora.network.worker.held import Held, HeldProduct
from private_lora.network.worker.limits import Limits, Refusal
from private_lora.network.worker.metrics import WorkerMetrics
from private_lora.network.worker.pace import Paces
from private_lora.network.worker.quotas import Budget
from private_lora.network.worker.sessions import ClientSession, Sessions
from private_lora.network.worker.turns import Turns
from private_lora.split.stopwatch import Stopwatch

log = logging.getLogger(__name__)
# While public material comes, it is there as it came, as bytes, and as what they say.
COPIES_OF_MATERIAL = 3


@dataclass(frozen=True)
class Request:
    """A question that was read. rows: as its header announced."""

    session: ClientSession
    product: HeldProduct
    rows: int
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
                self.metrics.refused(getattr(error, "limit", None))
        self.budget.refusals.wait(identity_of(context))
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
                self.metrics.refused(getattr(error, "limit", None))
        self.budget.refusals.wait(identity_of(context))
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

    def __init__(self, held: Held, limits: Limits, metrics: WorkerMetrics, budget: Budget, paces: Paces):
        self.held, self.limits, self.metrics, self.budget, self._paces = held, limits, metrics, budget, paces
        self.sessions = Sessions(limits, held.release)
        self._turns = Turns()
        self._largest_rows = {name: limits.largest_rows(product.server) for name, product in held.products.items()}
        too_large = next((name for name, rows in self._largest_rows.items() if not rows), None)
        if too_large is not None:
            raise UserError(
                f"one row of layer {too_large} takes more than the limits allow: "
                "give larger --max-message-mb and --max-memory-mb"
            )
        metrics.watch(self)

    @_answering
    def Open(self, request, context):
        if request.protocol_version != PROTOCOL_VERSION:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this worker speaks protocol version {PROTOCOL_VERSION} and the client version {request.protocol_version}: "
                "both sides need the same version of private_lora",
            )
        return messages.Welcome(
            protocol_version=PROTOCOL_VERSION,
            session_id=self.sessions.open(identity_of(context)),
            settings=self.held.settings.message(),
            products=[
                messages.Product(
                    name=p.name, weight_sha256=p.weight_sha256, plan=p.plan, largest_rows=self._largest_rows[p.name]
                )
                for p in self.held.products.values()
            ],
            largest_message=self.limits.message_bytes,
            longest_deadline_s=self.limits.deadline_s,
        )

    @_answering
    def Accept(self, request, context):
        client = identity_of(context)
        with self.budget.products.taken(client), self._upload(request, context) as parts:
            header = read_header(parts)
            session = self.sessions.find(header.session_id, client)
            self._check_size(header.size, self.limits.message_bytes)
            with session.serving(), self.budget.memory.taken(client, COPIES_OF_MATERIAL * header.size):
                data = read_data(parts, header.size)
                self.metrics.received(len(data))
                with self._turns.turn(client, context.is_active):
                    material = self._parsed(self.held.backend.public_material_from_bytes, data)
                    self.held.accept(material)
                    self._keep(session, material)
        return messages.Accepted()

    @_streaming
    def Multiply(self, request, context):
        client = identity_of(context)
        with self.budget.products.taken(client), ExitStack() as held:
            with self._upload(request, context) as parts:
                header = read_header(parts)
                session = self.sessions.find(header.session_id, client)
                cost = self._cost(header)
                held.enter_context(session.serving())
                memory = held.enter_context(self.budget.memory.taken(client, cost.bytes))
                question = self._question(session, header, parts)
            with self._turns.turn(client, context.is_active):
                answer, work = self._multiplied(question)
            del question
            memory.shrink(len(answer))
            self.metrics.answered(len(answer), work.seconds)
            with self._paces.watched(context) as stream:
                yield from stream.counted(parts_of(answer, work=work))

    @_answering
    def Close(self, request, context):
        self.sessions.close(request.session_id, identity_of(context))
        return messages.Closed()

    @contextmanager
    def _upload(self, parts: Iterator, context) -> Iterator[Iterator]:
        """A stream of a client's parts, which has to move."""
        with self._paces.watched(context) as stream:
            yield stream.counted(parts)

    def _cost(self, header) -> Cost:
        """What a question will take, by its header alone; raises Refusal when that is more than was announced."""
        product = self.held.products.get(header.product)
        if product is None:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "this worker holds no product of that name")
        most = self._largest_rows[header.product]
        if not 1 <= header.rows <= most:
            reason = f"a question for this layer has 1 to {most} rows and this one announces {header.rows}"
            raise Refusal(grpc.StatusCode.OUT_OF_RANGE, reason, "rows")
        cost = product.server.cost(header.rows)
        self._check_size(header.size, cost.question)
        return cost

    @staticmethod
    def _check_size(size: int, most: int) -> None:
        if not 0 < size <= most:
            reason = f"a message of {size} bytes is not between 1 and the {most} that this worker takes"
            raise Refusal(grpc.StatusCode.OUT_OF_RANGE, reason, "size")

    def _question(self, session: ClientSession, header, parts: Iterator) -> Request:
        if len(header.request_id) != REQUEST_ID_BYTES:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"a request id has {REQUEST_ID_BYTES} bytes")
        data = read_data(parts, header.size)
        self.metrics.received(len(data))
        session.note(header.request_id, data, self.limits.repeats)
        return Request(session, self.held.products[header.product], header.rows, data)

    def _multiplied(self, request: Request) -> tuple[bytes, messages.Work]:
        """The answer's bytes, and what was done for it; the same question gives the same bytes."""
        server, watch = request.product.server, Stopwatch()
        before = replace(server.counters)
        message = self._parsed(self.held.backend.ciphertext_from_bytes, request.data)
        if message.rows != request.rows:
            reason = f"the message has {message.rows} rows and its header announced {request.rows}"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, reason)
        self._check_material(request.session, message)
        answer = self._parsed(server.matmul, message).to_bytes()
        done = server.counters
        return answer, messages.Work(
            seconds=watch.lap(),
            products=done.products - before.products,
            encrypted_products=done.encrypted_products - before.encrypted_products,
            int8_operations=done.int8_operations - before.int8_operations,
        )

    def _keep(self, session: ClientSession, material) -> None:
        """Make material a session's, or drop it when the session has ended while it came."""
        try:
            session.keep(material)
        except Refusal:
            self.held.release(material)
            raise

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
