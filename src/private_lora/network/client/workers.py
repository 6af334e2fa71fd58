"""The data owner's side: every worker, what each holds, and questions that reach one of them whatever happens to the others."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from private_lora.backends.contract import Counters
from private_lora.core.errors import Interrupted, UserError
from private_lora.network.client.caught import Caught, Lie
from private_lora.network.client.connection import Connection, NeverAsked, Refused, Unreachable
from private_lora.network.client.pace import Pace
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.settings import Expected, Settings, compare_products, compare_settings

log = logging.getLogger(__name__)
GO_ON = "start one that holds it and run again, which goes on from the last step"
# A worker answers one request id only so many times (`Limits.repeats`), also when its answers were lost on the way.
ATTEMPTS_OF_AN_ID = 4
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.2, 10.0


@dataclass(frozen=True)
class Patience:
    """How long the client waits. deadline_s: for one answer. total_s: for any worker, before the run is interrupted."""

    deadline_s: float = 600.0
    total_s: float = 300.0


@dataclass(frozen=True)
class Answer:
    """What came back for a question. identity: of the worker that was asked. seconds: from asking to the last byte.

    work: what the worker says that it did, which decides nothing.
    """

    data: bytearray
    work: messages.Work
    connection: Connection
    identity: str
    seconds: float


class Workers:
    """Connections to all workers of a run.

    counters: round trips, retries, rejected answers and bytes. A worker that gave a wrong answer is asked no more by whoever
    reads the file of `caught`, at whatever address. One that refuses what it agreed to is `dropped`, with a reason, until this
    process ends. One that cannot be reached, or is slow, rests, and is asked again.

    stop_on_lie: whether the run stops at the first lie, instead of going on with others.
    """

    def __init__(
        self,
        connections: list[Connection],
        patience: Patience,
        caught: Caught | None = None,
        stop_on_lie: bool = False,
        pace: Pace | None = None,
    ):
        self.connections, self._patience = connections, patience
        self.counters = Counters()
        self.dropped: dict[str, str] = {}
        self.caught, self.stop_on_lie, self.pace = caught or Caught(), stop_on_lie, pace or Pace()
        self.run_id = ""
        self._settings: Settings | None = None
        self._expected: dict[str, Expected] = {}
        self._lock = threading.Lock()

    def connect(self, settings: Settings, expected: dict[str, Expected], run_id: str = "") -> None:
        """Shake hands with every worker; raises UserError when one holds something else, or a product has no worker.

        Workers that cannot be reached are waited for only while products are without any.
        """
        self._settings, self._expected, self.run_id = settings, expected, run_id
        deadline, attempt = time.monotonic() + self._patience.total_s, 0
        while True:
            closed = [c for c in self.connections if c.session_id is None and str(c.address) not in self.dropped]
            reasons = [self._try_to_open(c) for c in closed]
            orphan = next((name for name in expected if not self.holders(name)), None)
            if orphan is None:
                return
            unreachable = [reason for reason in reasons if reason]
            if not unreachable:
                lost = f" ({self._losses()})" if self.dropped else ""
                raise UserError(
                    f"no worker holds layer {orphan}{lost}: start one with its block in --layers, and --share-inputs as here"
                )
            if time.monotonic() > deadline:
                raise Interrupted(f"no worker for layer {orphan} after {self._patience.total_s:g} s: {unreachable[0]}")
            self._pause(attempt)
            attempt += 1

    def _try_to_open(self, connection: Connection) -> str | None:
        """None, or why the worker could not be reached."""
        try:
            self.open(connection)
        except Unreachable as error:
            log.warning("worker %s cannot be reached: %s", connection.address, error)
            return f"worker {connection.address}: {error}"
        except NeverAsked as error:
            self.drop(connection, str(error))
        except Refused as error:
            raise UserError(f"worker {connection.address} refuses: {error}") from None
        return None

    def open(self, connection: Connection) -> None:
        """A session with one worker, its side compared with ours; raises UserError on any difference.

        Raises NeverAsked, before anything is said, when it is one that was caught, here or in another process, or is revoked.
        """
        connection.holds = set()  # until it has shown them: another thread may look meanwhile
        lie = self.caught.lies.get(connection.meet())
        if lie is not None:
            where = f"; {self.caught.path} remembers it" if self.caught.path else ""
            raise NeverAsked(f"it was caught lying on {lie.date}, as {lie.worker}: {lie.reason}{where}")
        welcome = connection.open()
        compare_settings(str(connection.address), Settings.from_message(welcome.settings), self._settings)
        held = compare_products(str(connection.address), welcome.products, self._expected)
        connection.holds = {name for name in held if connection.largest_rows[name]}  # one that takes no rows holds nothing

    def holders(self, product: str) -> list[Connection]:
        """Workers that hold a product and were not dropped."""
        return [
            c
            for c in self.connections
            if product in c.holds and str(c.address) not in self.dropped and c.identity not in self.caught.lies
        ]

    def largest_rows(self, product: str) -> int | None:
        """Most rows of a question that every worker with this product takes; None if there is no such worker."""
        return min((c.largest_rows[product] for c in self.holders(product)), default=None)

    def drop(self, connection: Connection, reason: str) -> None:
        """Never ask whoever is at this address again in this process. It is not told."""
        with self._lock:
            self.dropped[str(connection.address)] = reason
        log.warning("worker %s is dropped: %s", connection.address, reason)

    def catch(self, answer: Answer, reason: str, bits: int) -> None:
        """Never ask this worker again, wherever it is and whoever resumes; raises Interrupted where a lie is to stop the run.

        It is on disk before anything else is asked. bits: as in `Lie`.
        """
        address = str(answer.connection.address)
        with self._lock:
            self.caught.add(Lie.now(answer.identity, address, reason, bits, self.run_id))
        for connection in [c for c in self.connections if c.identity == answer.identity]:
            self.drop(connection, reason)
        if self.stop_on_lie:
            raise Interrupted(
                f"worker {address} ({answer.identity}) lied: {reason}; the run stops, as --on-lie stop asks: run again with "
                "workers that you trust, which goes on from the last step and never asks this one"
            )

    def ask(self, product: str, question: bytes, rows: int, first: int, material: Callable, largest_answer: int) -> Answer:
        """The answer to a question of so many rows: from holder number `first` or, if that fails, whoever can.

        largest_answer: in bytes. What is sent again is the same bytes: a request is idempotent. Raises Interrupted when nobody
        answers in time.
        """
        request_id, begin, attempt = Connection.new_request_id(), time.monotonic(), 0
        while True:
            holders = self.holders(product)
            if not holders:
                raise Interrupted(f"no worker is left for layer {product}: {self._losses()}; {GO_ON}")
            ready = [c for c in holders if not c.is_resting] or holders
            connection = ready[(first + attempt) % len(ready)]
            reason = self._attempt(connection, product, request_id, question, rows, material, largest_answer)
            if isinstance(reason, Answer):
                self._judge_pace(reason, product, rows)
                return reason
            with self._lock:
                self.counters.retries += 1
            if time.monotonic() - begin > self._patience.total_s:
                raise Interrupted(
                    f"no answer for layer {product} in {self._patience.total_s:g} s: "
                    f"worker {connection.address}: {reason}; {GO_ON}"
                )
            attempt += 1
            if attempt % ATTEMPTS_OF_AN_ID == 0:
                request_id = Connection.new_request_id()
            if attempt % len(holders) == 0:
                self._pause(attempt // len(holders) - 1)

    def _losses(self) -> str:
        """Why workers were dropped."""
        return "; ".join(f"{address} ({reason})" for address, reason in self.dropped.items()) or "nobody holds it any more"

    def _judge_pace(self, answer: Answer, product: str, rows: int) -> None:
        """Prefer others to a worker that is slow; warn of it once, and never drop it for that."""
        worker, connection = str(answer.connection.address), answer.connection
        known = worker in self.pace.slow
        reason = self.pace.add(worker, product, rows, answer.seconds, self._patience.deadline_s)
        if reason is None:
            connection.wake()
            return
        connection.rest()
        if not known:
            alone = len(self.holders(product)) < 2
            then = "there is no other for this layer" if alone else "others are preferred"
            log.warning("worker %s is slow: %s; %s", connection.address, reason, then)

    def _attempt(self, connection, product, request_id, question, rows, material, largest_answer) -> Answer | str:
        """The answer, or why there is none."""
        try:
            with connection.opening:
                if connection.session_id is None:
                    self.open(connection)
            identity = connection.identity
            # Dropped, or restarted with other layers, since it was chosen.
            if connection not in self.holders(product):
                return "it does not hold the layer any more"
            connection.send_material(material, self._patience.deadline_s)
            begin, deadline_s = time.monotonic(), self._patience.deadline_s
            answer = connection.multiply(product, request_id, question, rows, deadline_s, largest_answer, identity)
            seconds = time.monotonic() - begin
        except Unreachable as error:
            connection.rest()
            log.warning("worker %s, layer %s: %s; trying again", connection.address, product, error)
            return str(error)
        except (Refused, UserError) as error:
            self.drop(connection, str(error))
            return str(error)
        with self._lock:
            self.counters.round_trips += 1
        return Answer(*answer, connection, identity, seconds)

    def count_traffic(self) -> None:
        """Bring the counters of bytes up to date."""
        with self._lock:
            self.counters.sent_bytes = sum(c.sent_bytes for c in self.connections)
            self.counters.received_bytes = sum(c.received_bytes for c in self.connections)

    def close(self) -> None:
        """Say goodbye to every worker that listens."""
        for connection in self.connections:
            connection.close()

    @staticmethod
    def _pause(attempt: int) -> None:
        """Exponential back-off with jitter."""
        longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**attempt)
        time.sleep(longest * random.uniform(0.5, 1.0))
