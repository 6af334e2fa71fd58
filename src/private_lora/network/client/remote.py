"""Products at workers, as a session's place: questions in flight while the next is encrypted, every exact answer checked."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from private_lora.backends.contract import Backend, Client, Counters, Offline, Plan
from private_lora.core.errors import UserError
from private_lora.network.client.connection import Connection
from private_lora.network.client.freivalds import AnswerCheck
from private_lora.network.client.workers import Workers
from private_lora.network.wire.settings import Expected, Settings, model_identity, plan_json
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.split.stopwatch import Stopwatch, TimedProduct
from private_lora.split.weights import ProductWeight

# Questions that wait for their answers, for every worker: one that is multiplied, one on its way.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Asking:
    """How the client asks. check_answers: Freivalds' check of every exact answer.

    rows_per_question: at most so many rows (tokens) at a time, spread over all workers that hold the layer; None: all at once.
    """

    check_answers: bool = True
    rows_per_question: int | None = None


@dataclass
class RemoteServer:
    """What the client knows of a product at workers. check: None for answers that are not exact, or not checked."""

    backend: Backend
    plan: Plan
    name: str
    check: AnswerCheck | None
    counters: Counters = field(default_factory=Counters)


@dataclass
class _Question:
    """Rows that wait for their answer. index: position among the questions of a product."""

    index: int
    x: np.ndarray
    message: object
    future: Future


class RemotePlace:
    """Where a session's products are when workers hold the weights; see `session.Place`."""

    is_local = False

    def __init__(self, workers: Workers, asking: Asking):
        self._workers, self._asking = workers, asking
        self._expected: dict[str, Expected] = {}
        self._threads = ThreadPoolExecutor(IN_FLIGHT * len(workers.connections), thread_name_prefix="ask")

    @property
    def counters(self) -> Counters:
        """Round trips, retries, rejected answers, bytes."""
        self._workers.count_traffic()
        return self._workers.counters

    def server(self, backend: Backend, plan: Plan, weight: ProductWeight) -> RemoteServer:
        """What stands for a product. The weight is looked at once, for its digest and the secret check, and not kept."""
        self._expected[weight.name] = Expected(weight.name, weight.digest(), plan_json(plan))
        checked = self._asking.check_answers and plan.exact and weight.terms is not None
        return RemoteServer(backend, plan, weight.name, AnswerCheck(weight.values, plan.bound) if checked else None)

    def connect(self, spec) -> None:
        """Shake hands with all workers; raises UserError if one holds something else than this run needs."""
        if ACTIVATION_QUANTIZERS[spec.activation_quantizer].calibrated and spec.activation_bits is not None:
            raise UserError(
                f"{spec.activation_quantizer} is calibrated with the weights themselves: workers need a dynamic quantizer"
            )
        model = model_identity(spec.model, spec.revision, spec.weights, spec.seed)
        self._workers.connect(Settings.of(spec, model), self._expected)

    def product(self, client: Client, server: RemoteServer, x: np.ndarray) -> TimedProduct:
        """x W (T x D from T x K), cut into questions that are encrypted while earlier ones travel and are multiplied."""
        tally, waiting, answers, before = _Tally(), deque(), [], replace(client.offline)
        for index, rows in enumerate(self._cut(x, server.name)):
            if len(waiting) == self._threads._max_workers:
                answers.append(self._collect(waiting.popleft(), client, server, tally))
            waiting.append(self._send(index, rows, client, server, tally))
        for question in waiting:
            self._get_ready(question, client, tally)
        answers += [self._collect(question, client, server, tally) for question in waiting]
        tally.offline = client.offline.since(before)
        return tally.product(answers[0] if len(answers) == 1 else np.concatenate(answers))

    @staticmethod
    def _get_ready(question: _Question, client: Client, tally: _Tally) -> None:
        """Do beforehand what the answer will need, while it is made."""
        watch = Stopwatch()
        client.get_ready(question.message)
        tally.decrypt_s += watch.lap()

    def _cut(self, x: np.ndarray, product: str) -> list[np.ndarray]:
        """The rows in questions as large as we want them and every worker takes them."""
        size = min(self._asking.rows_per_question or len(x), self._workers.largest_rows(product) or len(x))
        return [x[start : start + size] for start in range(0, len(x), size)]

    def _send(self, index: int, x: np.ndarray, client: Client, server: RemoteServer, tally: _Tally) -> _Question:
        watch = Stopwatch()
        message = client.encrypt(x)
        tally.encrypt_s += watch.lap()
        return _Question(index, x, message, self._threads.submit(self._deliver, index, len(x), message, client, server))

    def _deliver(self, index: int, rows: int, message, client: Client, server: RemoteServer):
        data, largest = message.to_bytes(), client.largest_answer(rows)
        return len(data), *self._workers.ask(server.name, data, rows, index, client.public_material, largest)

    def _collect(self, question: _Question, client: Client, server: RemoteServer, tally: _Tally) -> np.ndarray:
        """The rows' answer. A wrong one is asked for again, elsewhere and under new keys."""
        while True:
            watch = Stopwatch()
            asked_bytes, data, work, connection = question.future.result()
            tally.wait_s += watch.lap()
            y = self._opened(data, question, client, server, connection, tally)
            if y is not None:
                tally.add(work, server, asked_bytes, len(data))
                return y
            client.forget(question.message)
            self._workers.counters.rejected_answers += 1
            question = self._send(question.index, question.x, client, server, tally)

    def _opened(self, data, question, client, server, connection: Connection, tally: _Tally) -> np.ndarray | None:
        """The decrypted answer; None if it is no answer or a wrong one, whose worker is then dropped.

        Nothing of this reaches a worker, but that one of them is asked no more.
        """
        try:
            y = self._decrypted(data, question, client, server, tally)
            watch = Stopwatch()
            right = server.check is None or server.check.accepts(question.x, y)
            tally.verify_s += watch.lap()
        except Exception as error:  # whatever a worker sends, it does not end the run
            self._workers.drop(connection, f"its answer for layer {server.name} is none: {error}")
            return None
        if not right:
            self._workers.drop(connection, f"its answer for layer {server.name} is wrong (Freivalds' check)")
        return y if right else None

    @staticmethod
    def _decrypted(data, question: _Question, client: Client, server: RemoteServer, tally: _Tally) -> np.ndarray:
        """The answer to this question, T x D; raises ValueError when it is none."""
        watch = Stopwatch()
        answer = server.backend.ciphertext_from_bytes(data)
        # Decrypting the answer to another question would use up the key that its own answer needs.
        if getattr(answer, "question_id", None) != getattr(question.message, "question_id", None):
            raise ValueError("it belongs to another question")
        y = client.decrypt(answer)
        tally.decrypt_s += watch.lap()
        if y.shape != (len(question.x), server.plan.outputs) or y.dtype.kind not in "if":
            raise ValueError(f"it has the shape {y.shape} and holds {y.dtype}")
        return y

    def metrics(self) -> dict[str, tuple[float, str]]:
        """Number of workers, and whether what they hear is encrypted on the way."""
        connections = self._workers.connections
        return {"workers": (len(connections), ""), "tls": (int(all(c.is_encrypted for c in connections)), "")}

    def report(self) -> dict:
        """Addresses, dropped workers and options, for the sidecar."""
        connections = self._workers.connections
        return {
            "workers": [str(c.address) for c in connections],
            "tls": all(c.is_encrypted for c in connections),
            "dropped": self._workers.dropped,
            "check_answers": self._asking.check_answers,
            "rows_per_question": self._asking.rows_per_question,
        }

    def close(self) -> None:
        """End all sessions."""
        self._workers.close()
        self._threads.shutdown(cancel_futures=True)


class _Tally:
    """Seconds, operations and ciphertext bytes of one product's questions."""

    def __init__(self):
        self.encrypt_s = self.wait_s = self.decrypt_s = self.verify_s = self.matmul_s = 0.0
        self.up = self.down = self.operations = 0
        self.offline = Offline()

    def add(self, work, server: RemoteServer, question_bytes: int, answer_bytes: int) -> None:
        """Count an answer; bytes of ciphertext only of what the worker says it multiplied encrypted."""
        self.matmul_s += work.seconds
        self.operations += work.int8_operations
        server.counters.products += work.products
        server.counters.encrypted_products += work.encrypted_products
        server.counters.int8_operations += work.int8_operations
        if work.encrypted_products:
            self.up += question_bytes
            self.down += answer_bytes

    def product(self, y: np.ndarray) -> TimedProduct:
        """Everything together."""
        sizes = self.up, self.down, self.operations
        return TimedProduct(y, self.encrypt_s, self.matmul_s, self.decrypt_s, *sizes, self.wait_s, self.verify_s, self.offline)
