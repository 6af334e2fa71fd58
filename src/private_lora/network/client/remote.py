"""Products at workers, as a session's place: questions in flight while the next is encrypted, every exact answer checked."""

from __future__ import annotations

from collections import Counter as CounterOf
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from math import isfinite

import numpy as np

from private_lora.backends.contract import Backend, Client, Counters, Offline, Plan, is_ciphertext
from private_lora.core.errors import UserError, first_line
from private_lora.network.client.approximate import ApproximateCheck
from private_lora.network.client.freivalds import AnswerCheck
from private_lora.network.client.workers import Answer, Workers
from private_lora.network.wire.settings import Expected, Settings, model_identity, plan_json
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.split.stopwatch import Stopwatch, TimedProduct
from private_lora.split.weights import ProductWeight

# Questions that wait for their answers, for every worker: one that is multiplied, one on its way.
IN_FLIGHT = 2
# What a worker says of its work beside seconds (`Work`).
CLAIMS = ("products", "encrypted_products", "int8_operations")


@dataclass(frozen=True)
class Asking:
    """How the client asks. check_answers: Freivalds' check of every answer whose error is known (see `RemoteServer`).

    rows_per_question: at most so many rows (tokens) at a time, spread over all workers that hold the layer; None: all at once.
    """

    check_answers: bool = True
    rows_per_question: int | None = None


@dataclass
class RemoteServer:
    """What the client knows of a product at workers.

    check: exact, or approximate where the backend knows the distribution of its error; None for other answers, or on request.
    counters: what the client saw answered. claimed: what workers say that they did, which decides nothing.
    """

    backend: Backend
    plan: Plan
    name: str
    check: AnswerCheck | ApproximateCheck | None
    counters: Counters = field(default_factory=Counters)
    claimed: Counters = field(default_factory=Counters)


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
        self._servers: list[RemoteServer] = []
        self._threads = ThreadPoolExecutor(IN_FLIGHT * len(workers.connections), thread_name_prefix="ask")

    @property
    def counters(self) -> Counters:
        """Round trips, retries, rejected answers, bytes."""
        self._workers.count_traffic()
        return self._workers.counters

    def server(self, backend: Backend, plan: Plan, weight: ProductWeight) -> RemoteServer:
        """What stands for a product. The weight is looked at once, for its digest and the secret check, and not kept."""
        self._expected[weight.name] = Expected(weight.name, weight.digest(), plan_json(plan))
        self._servers.append(RemoteServer(backend, plan, weight.name, self._check(backend, plan, weight)))
        return self._servers[-1]

    def _check(self, backend: Backend, plan: Plan, weight: ProductWeight) -> AnswerCheck | ApproximateCheck | None:
        if not self._asking.check_answers or weight.terms is None:
            return None
        if plan.exact:
            return AnswerCheck(weight.values, plan.bound)
        error = backend.error_of_answers(plan, weight.values)
        return None if error is None else ApproximateCheck(weight.values, plan, error)

    def connect(self, spec) -> None:
        """Shake hands with all workers; raises UserError if one holds something else than this run needs."""
        if ACTIVATION_QUANTIZERS[spec.activation_quantizer].calibrated and spec.activation_bits is not None:
            raise UserError(
                f"{spec.activation_quantizer} is calibrated with the weights themselves: workers need a dynamic quantizer"
            )
        model = model_identity(spec.model, spec.revision, spec.weights, spec.seed)
        self._workers.connect(Settings.of(spec, model), self._expected, getattr(spec, "run_id", ""))

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
        server.counters.encrypted_questions += is_ciphertext(message)
        return _Question(index, x, message, self._threads.submit(self._deliver, index, len(x), message, client, server))

    def _deliver(self, index: int, rows: int, message, client: Client, server: RemoteServer) -> tuple[int, Answer]:
        data, largest = message.to_bytes(), client.largest_answer(rows)
        return len(data), self._workers.ask(server.name, data, rows, index, client.public_material, largest)

    def _collect(self, question: _Question, client: Client, server: RemoteServer, tally: _Tally) -> np.ndarray:
        """The rows' answer. A wrong one is asked for again, elsewhere and under new keys."""
        while True:
            watch = Stopwatch()
            asked_bytes, answer = question.future.result()
            tally.wait_s += watch.lap()
            y = self._opened(answer, question, client, server, tally)
            if y is not None:
                tally.add(answer, server, question, asked_bytes)
                return y
            client.forget(question.message)
            self._workers.counters.rejected_answers += 1
            question = self._send(question.index, question.x, client, server, tally)

    def _opened(self, answer: Answer, question, client, server, tally: _Tally) -> np.ndarray | None:
        """The decrypted answer; None if it is no answer or a wrong one, whose worker is then caught.

        Nothing of this reaches a worker, but that one of them is asked no more. Of one that was caught meanwhile, nothing is
        opened: what happens to its other answers does not depend on what is in them.
        """
        if answer.identity in self._workers.caught.lies:
            return None
        message, right = None, False
        try:
            message = self._parsed(answer.data, question, server)
            y = self._decrypted(message, question, client, server, tally)
            watch = Stopwatch()
            right = server.check is None or server.check.accepts(question.x, y)
            tally.verify_s += watch.lap()
            reason = f"its answer for layer {server.name} is wrong (Freivalds' check)"
        except Exception as error:  # whatever a worker sends, it does not end the run
            reason = f"its answer for layer {server.name} is none: {first_line(error)}"
        if not right:
            self._workers.catch(answer, reason, bits=int(message is not None))
        return y if right else None

    @staticmethod
    def _parsed(data: bytes, question: _Question, server: RemoteServer):
        """The answer to this question, still encrypted; raises ValueError when it is none, whatever is inside."""
        answer = server.backend.ciphertext_from_bytes(data)
        # Decrypting the answer to another question would use up the key that its own answer needs.
        if getattr(answer, "question_id", None) != getattr(question.message, "question_id", None):
            raise ValueError("it belongs to another question")
        if is_ciphertext(answer) != is_ciphertext(question.message):
            raise ValueError("one of question and answer is in the clear and the other is not")
        return answer

    @staticmethod
    def _decrypted(answer, question: _Question, client: Client, server: RemoteServer, tally: _Tally) -> np.ndarray:
        """What is inside, T x D; raises ValueError when that is no answer."""
        watch = Stopwatch()
        y = client.decrypt(answer)
        tally.decrypt_s += watch.lap()
        if y.shape != (len(question.x), server.plan.outputs) or y.dtype.kind not in "if":
            raise ValueError(f"it has the shape {y.shape} and holds {y.dtype}")
        return y

    def holders(self) -> CounterOf[int]:
        """How many products are held by how many workers: {workers: products}."""
        return CounterOf(len(self._workers.holders(server.name)) for server in self._servers)

    def metrics(self) -> dict[str, tuple[float, str]]:
        """Number of workers, and whether what they hear is encrypted on the way."""
        connections = self._workers.connections
        return {"workers": (len(connections), ""), "tls": (int(all(c.is_encrypted for c in connections)), "")}

    def report(self) -> dict:
        """Addresses, dropped, caught and slow workers, options, and what workers say that they did, for the sidecar.

        bits_shown_to_liars: of this run and its resumes, at most so many about its plaintexts by rejections (`caught.Lie`).
        """
        workers, claims = self._workers, sum((s.claimed for s in self._servers), Counters())
        return {
            "workers": [str(c.address) for c in workers.connections],
            "tls": all(c.is_encrypted for c in workers.connections),
            "dropped": workers.dropped,
            "caught": [asdict(lie) for lie in workers.caught.lies.values()],
            "bits_shown_to_liars": workers.caught.bits_shown(workers.run_id),
            "slow": workers.pace.slow,
            "check_answers": self._asking.check_answers,
            "checks": dict(CounterOf(type(s.check).__name__ if s.check else "none" for s in self._servers)),
            "rows_per_question": self._asking.rows_per_question,
            "reported_by_workers": {name: getattr(claims, name) for name in CLAIMS},
        }

    def close(self) -> None:
        """End all sessions."""
        self._workers.close()
        self._threads.shutdown(cancel_futures=True)


class _Tally:
    """Seconds and ciphertext bytes of one product's questions."""

    def __init__(self):
        self.encrypt_s = self.wait_s = self.decrypt_s = self.verify_s = self.matmul_s = 0.0
        self.up = self.down = 0
        self.offline = Offline()

    def add(self, answer: Answer, server: RemoteServer, question: _Question, asked_bytes: int) -> None:
        """Count an answer by what the client itself encrypted, decrypted and checked. What the worker says is kept apart.

        A worker's seconds are its own statement, but never more than the client waited for this answer.
        """
        self.matmul_s += min(max(answer.work.seconds, 0.0), answer.seconds) if isfinite(answer.work.seconds) else 0.0
        for name in CLAIMS:
            setattr(server.claimed, name, getattr(server.claimed, name) + getattr(answer.work, name))
        counters, rows, encrypted = server.counters, len(question.x), is_ciphertext(question.message)
        counters.products += 1
        counters.encrypted_products += encrypted
        counters.verified_rows += rows * (server.check is not None)
        counters.unverified_rows += rows * (server.check is None)
        if encrypted:
            self.up += asked_bytes
            self.down += len(answer.data)

    def product(self, y: np.ndarray) -> TimedProduct:
        """Everything together."""
        times = self.encrypt_s, self.matmul_s, self.decrypt_s
        return TimedProduct(y, *times, self.up, self.down, 0, self.wait_s, self.verify_s, self.offline)
