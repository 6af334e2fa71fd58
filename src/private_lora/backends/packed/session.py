"""The two sides of `packed` under a session's mask: a question is a body alone, and so is its answer.

The client knows A W beforehand (`hints`) and takes one pad slot for each row (`crypto.pads`): what costs time does not depend
on the data. Nothing about an answer changes what the client does next.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import numpy as np

from private_lora.backends.contract import Client, Cost, Plan, Server, check_activations
from private_lora.backends.packed.hints import Hint, product_identity
from private_lora.backends.packed.messages import SessionAnswer, SessionQuestion, session_answer_bytes, session_question_bytes
from private_lora.core.secrets import wipe
from private_lora.crypto.kernels import fastest_kernel, gpu_kernel
from private_lora.crypto.pads import SLOTS, Pad, decrypt_slots, encrypt_slots
from private_lora.crypto.planes import PlaneProduct, join_digits, weight_digits
from private_lora.crypto.rlwe import fresh_secrets
from private_lora.crypto.sampling import fresh_seed
from private_lora.crypto.session_parameters import SessionParameters


@dataclass(frozen=True)
class OpenQuestion:
    """What decrypts one answer: its rows' slots, each row's message scale, and its sum if weights have two digits."""

    slots: list[tuple[Pad, slice]] = field(repr=False)
    scale: np.ndarray = field(repr=False)
    row_sums: np.ndarray | None = field(repr=False)

    @property
    def rows(self) -> int:
        """Of the question, and of its answer."""
        return len(self.scale)

    def wipe(self) -> None:
        """Overwrite everything: the answer was opened, or will not be."""
        for pad, taken in self.slots:
            pad.wipe(taken)
        wipe(self.scale, self.row_sums)

    def __reduce__(self):
        raise TypeError("secret keys are not serialized: they stay in the client's process")


class SessionClient(Client):
    """Encrypts rows under slots of pads, each used once. `keys`: masks, hints and open questions of all products of a run."""

    def __init__(self, plan: Plan, keys, parameters: SessionParameters):
        super().__init__(plan, keys)
        self.parameters = parameters
        self._digits = plan.parameters["weight"]["digits"]
        self._dtype = np.int8 if plan.activation_bits <= 8 else np.int16
        self._mask_key: bytes | None = None
        self._hint: Hint | None = None
        self._pad: Pad | None = None

    def prepare(self, weight: np.ndarray) -> SessionClient:
        digits = weight_digits(weight, self.plan.weight_bits)
        self._mask_key = self.keys.masks.key(product_identity(digits, self.parameters))
        self._hint = self.keys.hints.get(digits, self._mask_key, self.parameters)
        return self

    def encrypt(self, x: np.ndarray) -> SessionQuestion:
        self.keys.check_use()
        check_activations(self.plan, x)
        if not len(x):
            raise ValueError("there are no rows of activations to encrypt")
        if self._hint is None:
            raise ValueError("this client has not seen the weight yet: call prepare(weight) before the first question")
        x = np.ascontiguousarray(x, dtype=self._dtype)
        p, question_id, scale, slots, first = self.parameters, os.urandom(16), self.scales(x), [], 0
        out = np.empty((p.body_planes, *x.shape), np.int8)
        while first < len(x):
            pad = self._filled(len(x) - first)
            taken = pad.take(min(pad.left, len(x) - first))
            rows = slice(first, first + taken.stop - taken.start)
            encrypt_slots(x[rows], scale[rows], pad, taken, p, out[:, rows])
            slots.append((pad, taken))
            first = rows.stop
            if not pad.left:
                self._pad = None  # its memory goes with its last answer
        row_sums = x.sum(axis=1, dtype=np.int64) if self._digits == 2 else None
        self.keys.secret[question_id] = OpenQuestion(slots, scale, row_sums)
        return SessionQuestion(question_id, p.sent, out)

    def scales(self, x: np.ndarray) -> np.ndarray:
        """Scale of each row's message (T)."""
        return np.full(len(x), float(self.parameters.delta))

    def get_ready(self, question: SessionQuestion) -> None:
        self.keys.check_use()
        for pad, _ in self.keys.secret[question.question_id].slots:
            self._phase(pad)

    def decrypt(self, message: SessionAnswer) -> np.ndarray:
        key = self.keys.take(message, SessionAnswer, self.plan, self.parameters)
        try:
            digits = self._opened(message, key, rounded=True)
            if self.plan.exact:
                self.counters.add_decrypted(digits.size, self.plan.parameters["failure_log2"])
            return digits if self._digits == 1 else join_digits(digits, key.row_sums)
        finally:
            key.wipe()

    def phases(self, message: SessionAnswer) -> np.ndarray:
        """The unrounded products with the weight's digits, float64 T x D (or T x 2D): integers plus the scheme's error."""
        key = self.keys.take(message, SessionAnswer, self.plan, self.parameters)
        try:
            return self._opened(message, key, rounded=False)
        finally:
            key.wipe()

    def _opened(self, message: SessionAnswer, key: OpenQuestion, rounded: bool) -> np.ndarray:
        parts = [self._phase(pad)[taken] for pad, taken in key.slots]
        phase = parts[0] if len(parts) == 1 else np.concatenate(parts)
        try:
            return decrypt_slots(message.body, phase, key.scale, self.parameters, rounded)
        finally:
            if len(parts) > 1:
                wipe(phase)

    def largest_answer(self, rows: int) -> int:
        return session_answer_bytes(rows, self.plan.outputs * self._digits, self.parameters.body_bits)

    def forget(self, question: SessionQuestion) -> None:
        key = self.keys.secret.pop(question.question_id, None)
        if key is not None:
            key.wipe()

    def _filled(self, rows: int) -> Pad:
        """A pad with slots left; a new one has as many as the rows need."""
        if self._pad is None:
            secrets = -(-rows // SLOTS)
            self.keys.masks.spend(self._mask_key, secrets)
            start = time.perf_counter()
            self._pad = self._made(secrets)
            self.keys.pads.add(self._pad)
            self.offline.encrypt_s += time.perf_counter() - start
            self.offline.rows += secrets * SLOTS
        return self._pad

    def _made(self, count: int) -> Pad:
        """A pad of fresh secrets."""
        seed, secrets, size = fresh_seed(), None, self.parameters.ring_size
        try:
            secrets = fresh_secrets(seed, size, count * size)
            return Pad(self._mask_key, self.plan.inputs, secrets, self.parameters)
        finally:
            wipe(seed, secrets)

    def _phase(self, pad: Pad) -> np.ndarray:
        start = time.perf_counter()
        phase = pad.phase(self._hint, self.parameters)
        self.offline.decrypt_s += time.perf_counter() - start
        return phase


class SessionServer(Server):
    """The weight as int8 digits, ready to multiply the byte planes of a question."""

    def __init__(self, plan: Plan, weight: np.ndarray, parameters: SessionParameters, device: str):
        super().__init__(plan)
        self.parameters = parameters
        kernel = fastest_kernel() if device == "cpu" else gpu_kernel(device)
        self._product = PlaneProduct(weight_digits(weight, plan.weight_bits), kernel, device)

    def matmul(self, message: SessionQuestion) -> SessionAnswer:
        p = self.parameters
        if (
            not isinstance(message, SessionQuestion)
            or message.digits.shape[2] != self.plan.inputs
            or message.parameters != p.sent
        ):
            raise ValueError(
                f"this is no question of rows of {self.plan.inputs} values under the plan's parameters for this layer"
            )
        body = self._product.rounded(message.digits, p.upload_bits, p.body_bits)
        self.counters.products += 1
        self.counters.encrypted_products += 1
        self.counters.int8_operations = self._product.int8_operations
        return SessionAnswer(message.question_id, p.sent, body)

    def cost(self, rows: int) -> Cost:
        p, inputs, columns = self.parameters, self.plan.inputs, self._product.outputs
        question = session_question_bytes(rows, inputs, p.upload_bits)
        answer = session_answer_bytes(rows, columns, p.body_bits)
        # The answer is there as a matrix, too, when its message is made.
        work = p.body_planes * rows * inputs + answer + self._product.work_bytes(p.body_planes, rows)
        return Cost(question, answer, work, 2 * p.body_planes * rows * inputs * columns)
