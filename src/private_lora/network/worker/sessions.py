"""What a worker remembers of its clients: who they are, what they sent for all questions, and what they were answered."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from private_lora.network.worker.limits import Limits, Refusal
from private_lora.network.worker.quotas import Quota

REMEMBERED_REQUESTS = 4096
# A digest of the message stands in its first bytes, see `backends.base.pack`.
FINGERPRINTED_BYTES = 512


@dataclass
class ClientSession:
    """One client between handshake and goodbye. identity: of its certificate.

    material: its public material, if any. release: called with it when it is replaced, and at the end.
    """

    identity: str
    last_used: float
    release: Callable[[object], None] = lambda material: None
    material: object = None
    is_over: bool = False
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

    def keep(self, material) -> None:
        """Public material in place of what there was; raises Refusal when the session has ended meanwhile."""
        with self.lock:
            if self.is_over:
                raise Refusal(grpc.StatusCode.NOT_FOUND, "this session has ended: open one")
            old, self.material = self.material, material
        self.release(old)

    def end(self) -> None:
        """Take no material any more, and give back what there is."""
        with self.lock:
            self.is_over, material, self.material = True, self.material, None
        self.release(material)

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
    """All sessions of a worker, by id. `release` is called with the material of every session that ends, or None."""

    def __init__(self, limits: Limits, release: Callable[[object], None]):
        self._limits, self._release = limits, release
        self._quota = Quota("sessions", limits.clients, "sessions")
        self._sessions: dict[bytes, ClientSession] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, identity: str) -> bytes:
        """Id of a new session; raises Refusal when there are too many that are not idle, or too many of this client.

        Of its own sessions, the one that it has not used for longest gives way: its last run may have died without a goodbye.
        """
        with self._lock:
            try:
                self._quota.take(identity)
            except Refusal:
                self._end_idle(identity)
                self._quota.take(identity)
            session_id = os.urandom(16)
            self._sessions[session_id] = ClientSession(identity, time.monotonic(), self._release)
            return session_id

    def _end_idle(self, identity: str) -> None:
        """End sessions without requests: the oldest of this client, and all that nobody has used for long."""
        oldest = time.monotonic() - self._limits.idle_s
        unused = {i: s for i, s in self._sessions.items() if not s.requests}
        own = min((i for i, s in unused.items() if s.identity == identity), key=lambda i: unused[i].last_used, default=None)
        for session_id in [i for i, s in unused.items() if s.last_used < oldest or i == own]:
            self._end(session_id)

    def _end(self, session_id: bytes) -> None:
        session = self._sessions.pop(session_id)
        self._quota.give_back(session.identity)
        session.end()

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
            if session_id in self._sessions:
                self._end(session_id)

    def end_of(self, identity: str) -> None:
        """End all sessions of one client."""
        with self._lock:
            for session_id in [i for i, s in self._sessions.items() if s.identity == identity]:
                self._end(session_id)
