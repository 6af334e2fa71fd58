"""The client's connection to one worker: handshake, questions, and the bytes of both."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import grpc

from private_lora.network.client.peer import Peer, PeerFailure, RevokedPeer, UntrustedPeer, check_not_revoked, meet
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import LARGEST_PART, REQUEST_ID_BYTES, BrokenStream, parts_of, read_data, read_header
from private_lora.network.wire.security import Address, Tls, check_plaintext, client_channel
from private_lora.network.wire.settings import PROTOCOL_VERSION

OPTIONS = [
    # A handshake is one message with a line for every product.
    ("grpc.max_receive_message_length", max(LARGEST_PART, 2**24)),
    # A worker whose machine vanished is noticed while its answer is waited for.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # How soon a worker that was restarted is tried again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
HANDSHAKE_S = 30.0
GOODBYE_S = 2.0
HEALTH_S = 5.0
# A session's id is sent with every question.
LONGEST_SESSION_ID = 64
LONGEST_REASON = 500
REST_S, LONGEST_REST_S = 5.0, 120.0
# Where asking again, here or elsewhere, may help. Everything else is the worker's last word.
TRANSIENT = frozenset(
    getattr(grpc.StatusCode, name)
    for name in (
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "RESOURCE_EXHAUSTED",
        "OUT_OF_RANGE",
        "ABORTED",
        "UNKNOWN",
        "INTERNAL",
        "NOT_FOUND",
    )
)


# gRPC calls a worker unavailable that shows another certificate than the one that this connection is for.
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class Unreachable(Exception):
    """No answer now; there may be one later, or elsewhere."""


class Refused(Exception):
    """The worker will not serve this, however often it is asked."""


class NeverAsked(Refused):
    """Whoever is there is not asked, though it may serve: it was caught lying, or its certificate was revoked."""


class Connection:
    """One worker. holds: names of our products that it has. sent_bytes, received_bytes: of all messages, as serialized.

    opening: to be held while a session is opened, because several questions may find that there is none.
    """

    def __init__(self, address: Address, tls: Tls | None):
        check_plaintext(address, tls)
        if tls is not None:
            tls.read()  # what cannot be read is named before anything starts
        self.address, self.is_encrypted, self._tls = address, tls is not None, tls
        self.session_id: bytes | None = None
        self.holds: set[str] = set()
        self.largest_rows: dict[str, int] = {}
        self._rest_s = self._resting_until = 0.0
        self.sent_bytes = self.received_bytes = 0
        self.opening, self._sending, self._counting = threading.Lock(), threading.Lock(), threading.Lock()
        self._material_id: bytes | None = None
        self._peer: Peer | None = None

    @staticmethod
    def new_request_id() -> bytes:
        """Of a question that was never sent."""
        return os.urandom(REQUEST_ID_BYTES)

    @property
    def identity(self) -> str | None:
        """Of whom this connection reaches, and nobody else: `Peer.identity`. None before they met."""
        return self._peer.identity if self._peer else None

    def meet(self) -> str:
        """The identity of who is there now; from here on, this connection reaches nobody else. Raises as `open` does."""
        try:
            self._peer = meet(self.address, self._tls, OPTIONS, self._peer)
        except RevokedPeer as error:
            raise NeverAsked(str(error)) from None
        except UntrustedPeer as error:
            raise Refused(_one_line(str(error))) from None
        except PeerFailure as error:
            raise Unreachable(_one_line(str(error))) from None
        return self._peer.identity

    def open(self) -> messages.Welcome:
        """Shake hands; raises Unreachable, Refused on another protocol version or what no worker says, or NeverAsked."""
        self.meet()
        hello = messages.Hello(protocol_version=PROTOCOL_VERSION)
        with self._failures():
            welcome = self._peer.stub.Open(hello, timeout=HANDSHAKE_S)
        self._count(sent=hello.ByteSize(), received=welcome.ByteSize())
        if welcome.protocol_version != PROTOCOL_VERSION:
            raise Refused(f"it speaks protocol version {welcome.protocol_version} and this client version {PROTOCOL_VERSION}")
        if not 0 < len(welcome.session_id) <= LONGEST_SESSION_ID:
            raise Refused(f"its session's id has {len(welcome.session_id)} bytes, not 1 to {LONGEST_SESSION_ID}")
        if not (math.isfinite(welcome.longest_deadline_s) and welcome.longest_deadline_s > 0):
            raise Refused(f"its longest deadline is {welcome.longest_deadline_s} s, which is none")
        self.session_id, self._material_id = welcome.session_id, None
        self._limits = welcome.largest_message, welcome.longest_deadline_s
        self.largest_rows = {product.name: product.largest_rows for product in welcome.products}
        return welcome

    def send_material(self, material: Callable, deadline_s: float) -> None:
        """The client's public material, once a session. material: gives it, or None where the backend needs none."""
        with self._sending:
            public = material()
            if public is None or public.key_id == self._material_id:
                return
            data = public.to_bytes()
            if len(data) > self._limits[0]:
                raise Refused(
                    f"it takes {self._limits[0]} bytes and our public material has {len(data)}: "
                    "start it with a larger --max-message-mb"
                )
            parts = self._counted(parts_of(data, session_id=self.session_id))
            with self._failures():
                self._peer.stub.Accept(parts, timeout=self._timeout(deadline_s))
            self._material_id = public.key_id

    def multiply(
        self,
        product: str,
        request_id: bytes,
        question: bytes,
        rows: int,
        deadline_s: float,
        largest_answer: int,
        identity: str | None = None,
    ) -> tuple[bytearray, messages.Work]:
        """The answer to a question, of at most so many bytes; raises Unreachable or Refused. identity: to ask nobody else."""
        peer = self._peer
        if identity is not None and peer.identity != identity:  # another thread has met somebody else meanwhile
            raise Unreachable("another worker is there now")
        if rows > self.largest_rows[product]:  # since it was restarted, perhaps; questions are cut to what all of them take
            raise Unreachable(
                f"it takes {self.largest_rows[product]} rows of layer {product} at a time, and this question has {rows}"
            )
        header = {"session_id": self.session_id, "request_id": request_id, "product": product, "rows": rows}
        with self._failures():
            call = peer.stub.Multiply(self._counted(parts_of(question, **header)), timeout=self._timeout(deadline_s))
            answers = self._received(call)
            try:
                first = read_header(answers)
                if first.size > largest_answer:
                    raise BrokenStream(f"it announces {first.size} bytes where an answer has at most {largest_answer}")
                return read_data(answers, first.size), first.work
            except BrokenStream as error:
                raise Refused(f"its answer cannot be read: {error}") from None
            finally:
                call.cancel()  # of a stream that goes on; nothing happens to one that has ended

    @property
    def is_resting(self) -> bool:
        """Whether others are preferred at present."""
        return time.monotonic() < self._resting_until

    def rest(self) -> None:
        """Prefer others for a while, each time twice as long: asking a worker that hangs costs a deadline."""
        if not self.is_resting:  # otherwise another question has just failed for the same reason
            self._rest_s = min(LONGEST_REST_S, 2 * self._rest_s or REST_S)
        self._resting_until = time.monotonic() + self._rest_s

    def wake(self) -> None:
        """It answered."""
        self._rest_s = self._resting_until = 0.0

    def close(self) -> None:
        """Say goodbye, if anybody listens, and end."""
        if self.session_id is not None:
            with suppress(grpc.RpcError):  # it forgets us by itself too
                self._peer.stub.Close(messages.Goodbye(session_id=self.session_id), timeout=GOODBYE_S)
        self.session_id = None
        if self._peer is not None:
            self._peer.channel.close()

    def _timeout(self, deadline_s: float) -> float:
        return min(deadline_s, self._limits[1])

    def _counted(self, parts: Iterator[messages.Part]) -> Iterator[messages.Part]:
        for part in parts:
            self._count(sent=part.ByteSize())
            yield part

    def _received(self, parts: Iterator[messages.Part]) -> Iterator[messages.Part]:
        for part in parts:
            self._count(received=part.ByteSize())
            yield part

    def _count(self, sent: int = 0, received: int = 0) -> None:
        with self._counting:
            self.sent_bytes += sent
            self.received_bytes += received

    @contextmanager
    def _failures(self):
        """Turn a gRPC status into Unreachable or Refused. A worker that does not know us was restarted: shake hands anew.

        So was one that shows another certificate than it did; whether that one is trusted, meeting it will tell. One whose
        certificate was revoked since they met is told nothing more.
        """
        session_id = self.session_id
        try:
            check_not_revoked(self._tls, self._peer.certificate)
            yield
        except RevokedPeer as error:
            raise NeverAsked(str(error)) from None
        except grpc.RpcError as error:
            code, details = error.code(), _one_line(error.details() or "no reason given")
            # Another thread may have shaken hands meanwhile.
            lost = code == grpc.StatusCode.NOT_FOUND or UNTRUSTED in details
            if lost and self.session_id == session_id:
                self.session_id = None
            raise (Unreachable if code in TRANSIENT else Refused)(f"{code.name}: {details}") from None


def _one_line(text: str) -> str:
    """What a worker wrote, fit for a log and a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_REASON])


def ask_health(address: Address, tls: Tls | None) -> str:
    """What a worker's health service says, `SERVING` if all is well; a status's name if nobody answers."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with client_channel(address, tls, OPTIONS) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_S)
        except grpc.RpcError as error:
            return error.code().name
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
