"""What a worker remembers of its clients: who they are, what they were answered, and how much memory they hold."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

REMEMBERED_REQUESTS = 4096
# A digest of the message stands in its first bytes, see `backends.base.pack`.
FINGERPRINTED_BYTES = 512


class Refusal(Exception):
    """A request that is answered with a status instead; the text is for the client's user."""

    def __init__(self, code: grpc.StatusCode, reason: str):
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class Limits:
    """What one worker grants.

    message_bytes: of one message. memory_bytes: of all messages that are being read, multiplied or sent at one time. clients:
    sessions at one time. requests: at one time, of all clients. repeats: answers to one and the same request. deadline_s: the
    longest a client may ask for. idle_s: after which a session gives way to a new one; its client may open another.
    """

    message_bytes: int = 2**30
    memory_bytes: int = 4 * 2**30
    clients: int = 8
    requests: int = 16
    repeats: int = 8
    deadline_s: float = 3600.0
    idle_s: float = 120.0


@dataclass
class ClientSession:
    """One client between handshake and goodbye. identity: of its certificate. material: its public material, if any."""

    identity: str
    last_used: float
    material: object = None
    answered: OrderedDict[bytes, tuple[bytes, int]] = field(default_factory=OrderedDict)
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def serving(self):
        """A request of this session is being served: it is not idle."""
        with self.lock:
            self.requests += 1
        try:
            yield
        finally:
            with self.lock:
                self.requests -= 1
                self.last_used = time.monotonic()

    def note(self, request_id: bytes, data: bytes, repeats: int) -> None:
        """Count a request; raises Refusal when its id was used for another question, or too often for this one."""
        digest = hashlib.sha256(data[:FINGERPRINTED_BYTES]).digest() + len(data).to_bytes(8, "big")
        with self.lock:
            known, times = self.answered.get(request_id, (digest, 0))
            if known != digest:
                raise Refusal(grpc.StatusCode.ALREADY_EXISTS, "this request id was used for another question")
            if times >= repeats:
                raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"this request was answered {times} times already")
            self.answered[request_id] = digest, times + 1
            self.answered.move_to_end(request_id)
            while len(self.answered) > REMEMBERED_REQUESTS:
                self.answered.popitem(last=False)


class Sessions:
    """All sessions of a worker, by id. `release` is called with the material of every session that ends."""

    def __init__(self, limits: Limits, release):
        self._limits, self._release = limits, release
        self._sessions: dict[bytes, ClientSession] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, identity: str) -> bytes:
        """Id of a new session; raises Refusal when there are too many, none of them idle."""
        with self._lock:
            if len(self._sessions) >= self._limits.clients:
                self._end_idle()
            if len(self._sessions) >= self._limits.clients:
                raise Refusal(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"this worker serves its {self._limits.clients} clients already"
                )
            session_id = os.urandom(16)
            self._sessions[session_id] = ClientSession(identity, time.monotonic())
            return session_id

    def _end_idle(self) -> None:
        oldest = time.monotonic() - self._limits.idle_s
        for session_id in [i for i, s in self._sessions.items() if s.last_used < oldest and not s.requests]:
            self._release(self._sessions.pop(session_id).material)

    def find(self, session_id: bytes, identity: str) -> ClientSession:
        """The session; raises Refusal when there is none (NOT_FOUND: the worker was restarted, say) or it is another's."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                raise Refusal(grpc.StatusCode.NOT_FOUND, "this worker does not know the session: open one")
            if session.identity != identity:
                raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "this session belongs to another client")
            session.last_used = time.monotonic()
            return session

    def close(self, session_id: bytes, identity: str) -> None:
        """End a session; raises Refusal as `find` does."""
        self.find(session_id, identity)
        with self._lock:
            session = self._sessions.pop(session_id, None)
        if session is not None:
            self._release(session.material)


class Budget:
    """Bytes of messages in memory at one time, and requests at one time."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._lock = threading.Lock()
        self.bytes, self.requests = 0, 0

    @contextmanager
    def request(self):
        """A place among the requests; raises Refusal when all are taken."""
        with self._lock:
            if self.requests >= self._limits.requests:
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"this worker has its {self.requests} requests already")
            self.requests += 1
        try:
            yield
        finally:
            with self._lock:
                self.requests -= 1

    @contextmanager
    def reserved(self, size: int):
        """Room for a message; raises Refusal when it is too large, or too much for now."""
        if not 0 < size <= self._limits.message_bytes:
            raise Refusal(
                grpc.StatusCode.OUT_OF_RANGE,
                f"a message of {size} bytes is not between 1 and the {self._limits.message_bytes} that this worker takes",
            )
        with self._lock:
            if self.bytes + size > self._limits.memory_bytes:
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"no room for {size} more bytes at present")
            self.bytes += size
        try:
            yield
        finally:
            with self._lock:
                self.bytes -= size
