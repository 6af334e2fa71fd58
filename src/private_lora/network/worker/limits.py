"""What one worker grants, to all clients together and to each, and how a request is told that it asks for more."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import grpc

from private_lora.backends.contract import Cost, Server

MOST_ROWS = 2**32
# A client asks for the next product while its last is multiplied, and may hold half of the memory.
REQUESTS_IN_MEMORY = 4


class Refusal(Exception):
    """A request that is answered with a status instead; the text is for the client's user, the limit for the metrics."""

    def __init__(self, code: grpc.StatusCode, reason: str, limit: str | None = None):
        super().__init__(reason)
        self.code, self.reason, self.limit = code, reason, limit


@dataclass(frozen=True)
class Limits:
    """What one worker grants. Of sessions, requests and memory, no client may hold more than is left for others (`quotas`).

    message_bytes: of one message. memory_bytes: of all questions and answers at one time, and of the work on them. clients:
    sessions at one time. requests: at one time, of all clients. repeats: answers to one and the same request. deadline_s: the
    longest a client may ask for. idle_s: after which a session gives way to a new one; its client may open another.
    turn_operations: multiplications and additions of int8 of one question's rows, so that nobody waits long for his turn.
    bytes_per_s: slowest mean rate of a stream, once it is grace_s old. stalled_s: longest pause between two parts of a stream.
    refusals_per_s: of one client, after the first refusals_at_once; the next wait until then.
    """

    message_bytes: int = 2**30
    memory_bytes: int = 4 * 2**30
    clients: int = 8
    requests: int = 16
    repeats: int = 8
    deadline_s: float = 3600.0
    idle_s: float = 120.0
    turn_operations: int = 2**38
    bytes_per_s: int = 2**16
    grace_s: float = 10.0
    stalled_s: float = 30.0
    refusals_per_s: float = 20.0
    refusals_at_once: int = 40

    def largest_rows(self, server: Server) -> int:
        """Most rows of a question for a server that all limits have room for; 0 if one row alone takes too much."""
        nothing = server.cost(0)

        def fits(cost: Cost) -> bool:
            small = cost.question <= self.message_bytes and cost.answer <= self.message_bytes
            # What no row adds to (a fresh mask's product) is not less in a smaller question.
            quick = cost.operations - nothing.operations <= self.turn_operations
            return small and quick and REQUESTS_IN_MEMORY * cost.bytes <= self.memory_bytes

        rows = bisect_left(range(1, MOST_ROWS), True, key=lambda rows: not fits(server.cost(rows)))
        one = server.cost(1)
        return rows or int(max(one.question, one.answer) <= self.message_bytes and one.bytes <= self.memory_bytes)
