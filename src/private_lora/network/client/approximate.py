"""Freivalds' check of approximate answers: whether y is x W but for the error that the scheme itself makes."""

from __future__ import annotations

import math
import os

import numpy as np

from private_lora.backends.contract import AnswerError, Plan, check_integer_weight
from private_lora.network.client.freivalds import check_answered

# Independent secret vectors: a wrong row has to pass all of them.
VECTORS = 8
# Their entries are uniform from -LARGEST_ENTRY to LARGEST_ENTRY.
LARGEST_ENTRY = 127
# Right answers are refused with a probability of at most 2^-FALSE_ALARM_BITS in 2^ROWS_LOG2 rows.
FALSE_ALARM_BITS, ROWS_LOG2 = 40, 32


class ApproximateCheck:
    """Tells answers that are x W but for the scheme's error from others, after seeing the integer weight W (K x D) once.

    The check draws VECTORS secret integer vectors r and keeps v = W r. Of a row y that answers x, y r - x v is the product of
    the row's error with r: sub-Gaussian, with a variance proxy s^2 that follows from plan, weight and r. The row is refused if
    that is beyond z s for some r, where 2 VECTORS exp(-z^2 / 2) is 2^-(FALSE_ALARM_BITS + ROWS_LOG2), or if a value is beyond
    any answer.

    A row with some value wrong by m passes with a probability of at most ((2 z s / m + 1) / (2 LARGEST_ENTRY + 1))^VECTORS,
    whatever else is wrong: the other entries of r given, it passes for values of that one entry in an interval of 2 z s / m. As
    s is about sqrt(D) times the error of one value times the entries' size, what passes is small beside the answers of a whole
    row, but not beside the error of one value.

    Cost for T rows: VECTORS T (K + D) multiplications. Memory: 8 VECTORS (K + D) bytes.
    """

    def __init__(self, weight: np.ndarray, plan: Plan, error: AnswerError):
        check_integer_weight(weight)
        self.inputs, self.outputs = weight.shape
        self._error = error
        self._secret = _uniform((VECTORS, self.outputs))
        # Products of integers in float64 are exact up to 2^53, where BLAS makes them fast.
        exact = np.abs(weight, dtype=np.float64).sum(axis=1).max() * LARGEST_ENTRY < 2**53
        kind = np.float64 if exact else np.int64
        self._image = (weight.astype(kind) @ self._secret.T.astype(kind)).astype(np.int64)
        self._scaled, self._fixed = error.variances(self._secret)
        self._z = deviations()
        self._largest = plan.bound + math.ceil(self._z * plan.noise_std)

    def __reduce__(self):
        raise TypeError("the secret of a check is not serialized: a worker that knew it could answer anything")

    def __repr__(self) -> str:
        return f"ApproximateCheck({self.inputs} x {self.outputs})"

    def residuals(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Products of each row's error with each secret vector, in standard deviations (T x VECTORS): to be in [-z, z].

        x is T x K, y T x D, int64. Sums are taken modulo 2^64: right answers are far below.
        """
        check_answered(x, y, self.inputs, self.outputs)
        found = y.astype(np.int64) @ self._secret.T - x.astype(np.int64) @ self._image
        scales = self._error.scales(x)
        return found / np.sqrt(self._scaled / np.square(scales)[:, None] + self._fixed)

    def wrong_rows(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Indices (int64, ascending) of rows of y that are not x W but for the scheme's error; ValueError as `residuals`."""
        far = (np.abs(self.residuals(x, y)) > self._z).any(axis=1)
        beyond = (y > self._largest) | (y < -self._largest)
        return np.flatnonzero(far | beyond.any(axis=1))

    def accepts(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Whether no row is wrong; raises ValueError as `residuals` does."""
        return not len(self.wrong_rows(x, y))


def deviations() -> float:
    """z: how many standard deviations a right row may be away."""
    return math.sqrt(2 * math.log(2) * (FALSE_ALARM_BITS + ROWS_LOG2 + 1 + math.log2(VECTORS)))


def _uniform(shape: tuple[int, int]) -> np.ndarray:
    """Uniform entries (int64) from the operating system; bytes that would make them unequal are drawn again."""
    count, drawn = math.prod(shape), b""
    while len(drawn) < count:
        drawn += bytes(byte for byte in os.urandom(count) if byte <= 2 * LARGEST_ENTRY)
    return np.frombuffer(drawn[:count], np.uint8).astype(np.int64).reshape(shape) - LARGEST_ENTRY
