"""`packed`: token-packed RLWE, exact. An encrypted product is a few int8 matrix products, and equals `integer` bit for bit.

With `mask: session`, the default, one public mask stands for many questions (`session`). With `mask: fresh`, here, keys are
made for one question and forgotten with its answer: the client draws mask seed, secrets and error seed inside `encrypt`.
Either way a pair of mask and secret never occurs twice, and nothing about an answer changes what the client does next.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from weakref import WeakSet

import numpy as np

from private_lora.backends.contract import (
    Backend,
    Client,
    Cost,
    Plan,
    Server,
    accumulator_bound,
    check_activations,
    check_integer_weight,
    integer_bits,
)
from private_lora.backends.packed.hints import HintStore, hint_bytes
from private_lora.backends.packed.masks import Masks
from private_lora.backends.packed.messages import (
    PackedAnswer,
    PackedQuestion,
    answer_bytes,
    message_from_bytes,
    question_bytes,
    session_answer_bytes,
    session_question_bytes,
)
from private_lora.backends.packed.session import OpenQuestion, SessionClient, SessionServer
from private_lora.core.errors import UserError
from private_lora.core.secrets import OneProcess, wipe
from private_lora.crypto.bits import tile_count
from private_lora.crypto.kernels import LARGEST_INPUTS, fastest_kernel, gpu_kernel
from private_lora.crypto.pads import Pad
from private_lora.crypto.parameters import FAILURE_LOG2, PackedParameters, choose_exact
from private_lora.crypto.planes import PlaneProduct, join_digits, weight_digits
from private_lora.crypto.ring import LANES
from private_lora.crypto.rlwe import decrypt_rows, encrypt_rows, fresh_secrets, mask_tiles
from private_lora.crypto.sampling import fresh_seed
from private_lora.crypto.security import COLUMN, SECURITY_BITS
from private_lora.crypto.session_parameters import SessionParameters, choose_session_exact
from private_lora.specs.options import HINTS_VARIABLE

LARGEST_WEIGHT_BITS = 16


@dataclass(frozen=True)
class WeightNorms:
    """Public facts about an integer weight (as int8 digits, K x D or K x 2D) that parameters are chosen from.

    l1, l2: largest norms of a column. largest: |entry|. digits: 1, or 2 for weights of more than 8 bits. common_bits: log2 of
    the largest power of two that divides all of some column that is not zero.
    """

    l1: int
    l2: float
    largest: int
    digits: int
    common_bits: int

    @classmethod
    def of(cls, weight: np.ndarray) -> WeightNorms:
        """Norms of a checked weight; raises ValueError when it cannot be multiplied."""
        check_integer_weight(weight)
        bits = integer_bits(weight)
        if bits > LARGEST_WEIGHT_BITS:
            raise ValueError(
                f"weights of {bits} bits are more than the {LARGEST_WEIGHT_BITS} that packed multiplies: use fewer"
            )
        if len(weight) > LARGEST_INPUTS:
            raise ValueError(
                f"{len(weight)} inputs are more than the {LARGEST_INPUTS} whose int8 products int32 can sum exactly"
            )
        absolute = np.abs(weight_digits(weight, bits).astype(np.int32))
        squares = np.square(absolute).sum(axis=0, dtype=np.int64)
        united = np.bitwise_or.reduce(absolute, axis=0)
        lowest = (united & -united).max()  # of each column, the lowest bit that any entry has
        l1, l2 = int(absolute.sum(axis=0, dtype=np.int64).max()), float(squares.max()) ** 0.5
        return cls(l1, l2, int(absolute.max()), 1 + (bits > 8), max(0, int(lowest).bit_length() - 1))


class PackedBackend(Backend):
    """`device` is the server's: with "cuda" it multiplies on the GPU. The client's work is done on the CPU.

    failure_log2: log2 of the largest allowed probability that a value decrypts wrongly. security: column of
    `crypto.security` that decides. mask: `session` or `fresh`. Hints, and the seed of their masks, outlive the process in the
    directory that the environment variable HINTS_VARIABLE names; without it they are in memory.
    """

    name = "packed"

    def __init__(self, device: str = "cpu", failure_log2: float = FAILURE_LOG2, security: str = COLUMN, mask: str = "session"):
        super().__init__(device)
        check_cuda(self.name, device)
        self.failure_log2, self.security, self.mask = float(failure_log2), security, mask

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        norms = WeightNorms.of(weight)
        choose = choose_session_exact if self.mask == "session" else choose_exact
        bound = norms.l1 * 2 ** (activation_bits - 1)
        parameters = choose(bound, norms.l2, self.failure_log2, self.security, norms.common_bits)
        return Plan(
            self.name,
            *weight.shape,
            activation_bits,
            integer_bits(weight),
            accumulator_bound(weight, activation_bits),
            security_bits=SECURITY_BITS,
            parameters=parameters.report(norms.l2) | {"weight": asdict(norms)},
        )

    def client(self, plan: Plan, keys: PackedKeys | None = None) -> PackedClient | SessionClient:
        directory = os.environ.get(HINTS_VARIABLE)
        keys = keys or PackedKeys(Path(directory) if directory else None)
        if plan.parameters["mask"] == "session":
            return self._session_client(plan, keys, parameters_of(plan))
        return self._fresh_client(plan, keys)

    _session_client = staticmethod(SessionClient)

    def _fresh_client(self, plan: Plan, keys: PackedKeys) -> PackedClient:
        return PackedClient(plan, keys)

    def server(self, plan: Plan, weight: np.ndarray) -> PackedServer | SessionServer:
        if plan.parameters["mask"] == "session":
            return SessionServer(plan, weight, parameters_of(plan), self.device)
        return PackedServer(plan, weight, self.device)

    def report(self) -> dict:
        return {"int8_kernel": fastest_kernel() if self.device == "cpu" else gpu_kernel(self.device)}

    def metrics(self, keys: PackedKeys) -> dict[str, tuple[float, str]]:
        if self.mask != "session" or keys is None:
            return {}
        hints = keys.hints
        return {
            "hint_bytes": (hints.bytes, "B"),
            "hints_made": (hints.made, ""),
            "hint_time_s": (hints.seconds, "s"),
            "secrets_under_one_mask": (keys.masks.most_used, ""),
        }

    def close(self, keys: PackedKeys | None) -> None:
        if keys is not None:
            keys.close()

    def message_bytes(self, plan: Plan, rows: int) -> tuple[int, int]:
        """Bytes of a question of so many rows, and of its answer."""
        p, columns = parameters_of(plan), plan.outputs * plan.parameters["weight"]["digits"]
        if self.mask == "session":
            return session_question_bytes(rows, plan.inputs, p.upload_bits), session_answer_bytes(rows, columns, p.body_bits)
        return question_bytes(rows, plan.inputs, p.body_planes), answer_bytes(rows, columns, p)

    def hint_bytes(self, plan: Plan) -> int:
        """Bytes of the hint that the client keeps for a product; 0 where masks are fresh."""
        columns = plan.outputs * plan.parameters["weight"]["digits"]
        return hint_bytes(columns, parameters_of(plan)) if self.mask == "session" else 0

    def ciphertext_from_bytes(self, data: bytes):
        return message_from_bytes(data)


def check_cuda(name: str, device: str) -> None:
    """Nothing; raises UserError when a GPU is asked for and there is none."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"backend {name!r} was asked for device 'cuda' and this machine has no usable CUDA GPU")


@dataclass(frozen=True)
class OneTimeKey:
    """What decrypts one answer: secrets (int8, B x N), each row's message scale, and its sum if weights have two digits."""

    secrets: np.ndarray = field(repr=False)
    delta: np.ndarray = field(repr=False)
    row_sums: np.ndarray | None = field(repr=False)

    @property
    def rows(self) -> int:
        """Of the question, and of its answer."""
        return len(self.delta)

    def wipe(self) -> None:
        """Overwrite everything: the answer was opened, or will not be."""
        wipe(self.secrets, self.delta, self.row_sums)

    def __reduce__(self):
        raise TypeError("secret keys are not serialized: they stay in the client's process")


class PackedKeys:
    """What the clients of a run share: keys of open questions, by question id, and a session's masks and hints.

    hints_in: directory where masks and hints outlive the process; None: memory.
    """

    def __init__(self, hints_in: Path | None = None):
        self.secret: dict[bytes, OneTimeKey | OpenQuestion] = {}
        self._hints_in, self._process, self._closed = hints_in, OneProcess(), False
        self.pads: WeakSet[Pad] = WeakSet()

    def check_use(self) -> None:
        """Nothing; raises RuntimeError in a fork of the process that made the keys, or when they are wiped."""
        self._process.check()
        if self._closed:
            raise RuntimeError("the keys of this client are wiped: make another client")

    def close(self) -> None:
        """Wipe all open questions and pads; nothing can be encrypted or decrypted any more."""
        self._closed = True
        for holder in (*self.secret.values(), *self.pads):
            holder.close() if isinstance(holder, Pad) else holder.wipe()
        self.secret.clear()

    def take(self, message, kind: type, plan: Plan, parameters: PackedParameters) -> OneTimeKey | OpenQuestion:
        """What opens an answer, given out once; raises ValueError when it is no answer of ours or not for this layer."""
        self.check_use()
        outputs = plan.outputs * plan.parameters["weight"]["digits"]
        if not isinstance(message, kind) or message.body.columns != outputs or message.parameters != parameters.sent:
            raise ValueError(f"this is no answer for a layer of {plan.outputs} outputs under the plan's parameters")
        key = self.secret.get(message.question_id)
        if key is None or key.rows != message.body.rows:
            raise ValueError(
                "this answer belongs to another key: it answers no question of this client, or was decrypted before"
            )
        return self.secret.pop(message.question_id)

    @cached_property
    def masks(self) -> Masks:
        """Of a session; made when first asked for."""
        return Masks(self._hints_in)

    @cached_property
    def hints(self) -> HintStore:
        """Of a session; made when first asked for."""
        return HintStore(self._hints_in)

    def __reduce__(self):
        raise TypeError("secret keys are not serialized: they stay in the client's process")


class PackedClient(Client):
    """Encrypts rows under keys made for them alone."""

    def __init__(self, plan: Plan, keys: PackedKeys):
        super().__init__(plan, keys)
        self.parameters = parameters_of(plan)
        self._digits = plan.parameters["weight"]["digits"]
        self._dtype = np.int8 if plan.activation_bits <= 8 else np.int16

    def encrypt(self, x: np.ndarray) -> PackedQuestion:
        self.keys.check_use()
        check_activations(self.plan, x)
        if not len(x):
            raise ValueError("there are no rows of activations to encrypt")
        x = np.ascontiguousarray(x, dtype=self._dtype)
        question_id, mask_seed = os.urandom(16), bytes(fresh_seed())
        seed, error_seed, delta = fresh_seed(), fresh_seed(), self.scales(x)
        row_sums = x.sum(axis=1, dtype=np.int64) if self._digits == 2 else None
        try:
            key = OneTimeKey(fresh_secrets(seed, self.parameters.ring_size, len(x)), delta, row_sums)
            try:
                bodies = encrypt_rows(x, delta, mask_seed, key.secrets, error_seed, self.parameters)
            except BaseException:
                key.wipe()
                raise
        finally:
            wipe(seed, error_seed)
        self.keys.secret[question_id] = key
        return PackedQuestion(question_id, mask_seed, self.plan.inputs, self.parameters.sent, bodies)

    def scales(self, x: np.ndarray) -> np.ndarray:
        """Scale of each row's message (T)."""
        return np.full(len(x), float(self.parameters.delta))

    def decrypt(self, message: PackedAnswer) -> np.ndarray:
        key = self.keys.take(message, PackedAnswer, self.plan, self.parameters)
        try:
            digits = decrypt_rows(message.mask, message.body, key.delta, key.secrets, self.parameters)
            if self.plan.exact:
                self.counters.add_decrypted(digits.size, self.plan.parameters["failure_log2"])
            return digits if self._digits == 1 else join_digits(digits, key.row_sums)
        finally:
            key.wipe()

    def phases(self, message: PackedAnswer) -> np.ndarray:
        """The unrounded products with the weight's digits, float64 T x D (or T x 2D): integers plus the scheme's error."""
        key = self.keys.take(message, PackedAnswer, self.plan, self.parameters)
        try:
            return decrypt_rows(message.mask, message.body, key.delta, key.secrets, self.parameters, rounded=False)
        finally:
            key.wipe()

    def largest_answer(self, rows: int) -> int:
        return answer_bytes(rows, self.plan.outputs * self._digits, self.parameters)

    def forget(self, question: PackedQuestion) -> None:
        key = self.keys.secret.pop(question.question_id, None)
        if key is not None:
            key.wipe()


class PackedServer(Server):
    """The weight as int8 digits, ready to multiply byte planes."""

    def __init__(self, plan: Plan, weight: np.ndarray, device: str):
        super().__init__(plan)
        self.parameters = parameters_of(plan)
        kernel = fastest_kernel() if device == "cpu" else gpu_kernel(device)
        self._product = PlaneProduct(weight_digits(weight, plan.weight_bits), kernel, device)

    def matmul(self, message: PackedQuestion) -> PackedAnswer:
        p = self.parameters
        if not isinstance(message, PackedQuestion) or message.columns != self.plan.inputs or message.parameters != p.sent:
            raise ValueError(
                f"this is no question of rows of {self.plan.inputs} values under the plan's parameters for this layer"
            )
        masks = mask_tiles(message.mask_seed, p, self.plan.inputs)
        mask = self._product.rounded_tiles(masks, p.log2_q, p.mask_bits)
        body = self._product.rounded_tiles(message.bodies, p.upload_bits, p.body_bits)
        self.counters.products += 1
        self.counters.encrypted_products += 1
        self.counters.int8_operations = self._product.int8_operations
        return PackedAnswer(message.question_id, p.sent, mask, body)

    def cost(self, rows: int) -> Cost:
        p, inputs, columns = self.parameters, self.plan.inputs, self._product.outputs
        question, answer = question_bytes(rows, inputs, p.body_planes), answer_bytes(rows, columns, p)
        masks = tile_count(inputs) * p.mask_planes * p.ring_size * LANES
        products = [self._product.work_bytes(p.mask_planes, p.ring_size), self._product.work_bytes(p.body_planes, rows)]
        # Question and answer are there as matrices, too.
        work = question + masks + answer + sum(products)
        planes_and_rows = p.mask_planes * p.ring_size + p.body_planes * rows
        return Cost(question, answer, work, 2 * planes_and_rows * inputs * columns)


def parameters_of(plan: Plan) -> PackedParameters:
    """The scheme's parameters out of a plan."""
    kind = SessionParameters if plan.parameters["mask"] == "session" else PackedParameters
    return kind(**{f.name: plan.parameters[f.name] for f in fields(kind)})
