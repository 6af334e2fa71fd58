"""Freivalds' check: whether y = x W, without W and at the cost of two vectors, by numbers that only the checker knows.

All sums are taken modulo 2^64, which is what 64-bit machine arithmetic does, so nothing can overflow and nothing is reduced.
"""

from __future__ import annotations

import os

import numba
import numpy as np

from private_lora.backends.contract import check_integer_weight
from private_lora.crypto.parallel import in_ranges

# A wrong row is accepted with a probability of at most 2^-MISSED_BITS.
MISSED_BITS = 32
_WORD_BITS = 64
# Up to here, bound - y and bound + y have the sign that their exact values have, for every 64-bit y.
_LARGEST_BOUND = 2**62 - 1
# Values of x or y that are worth a thread of their own.
_VALUES_PER_THREAD = 2**16


class AnswerCheck:
    """Tells right answers x W from wrong ones after seeing the integer weight W (K x D) once; W is not kept.

    bound: largest |value| of a right answer, the plan's. A value beyond it is wrong without further arithmetic.

    The check draws r, D uniform words, from the operating system and keeps r and v = W r modulo 2^64. A row y of an answer to x
    is right if y r = x v; a right row always passes. Let e = y - x W be the error of a wrong one, made without knowing r, and
    2^j the largest power of two that divides all of e: then e r modulo 2^64 is uniform over the multiples of 2^j, so the row
    passes with probability 2^(j - 64). No |e| exceeds 2 bound (x being inside the plan's bits), so j is at most log2(2 bound):
    2^-33 or less with 8 bits and up to 65,536 inputs. Where one r leaves more than 2^-32, as with 16 bits, more are drawn,
    independently of each other, until all together do not. The same r serves any number of answers, because a worker that sees
    one verdict on an error of its own learns next to nothing about r, and is asked no more once refused.

    Cost for T rows: T (K + D) multiplications for each r (`secrets` of them), no slower than y is read from memory.
    Memory: 8 (K + D) bytes for each r.
    """

    def __init__(self, weight: np.ndarray, bound: int):
        check_integer_weight(weight)
        if not 0 <= bound <= _LARGEST_BOUND:
            raise ValueError(f"the bound of exact answers must be in [0, 2^62), it is {bound}")
        self.inputs, self.outputs = weight.shape
        self.bound = int(bound)
        decided = _WORD_BITS - max(0, (2 * self.bound).bit_length() - 1)  # bits by which one r can tell an error from none
        self.secrets = -(-MISSED_BITS // decided)
        drawn = np.frombuffer(os.urandom(8 * self.secrets * self.outputs), np.int64)
        self._secret = drawn.reshape(self.secrets, self.outputs)
        self._image = np.empty((self.secrets, self.inputs), np.int64)
        weight = _in_kernel_type(weight)
        in_ranges(_multiply, self.inputs, weight, self._secret, self._image, block=_rows_per_thread(self.outputs))

    def __reduce__(self):
        raise TypeError("the secret of a check is not serialized: a worker that knew it could answer anything")

    def __repr__(self) -> str:
        return f"AnswerCheck({self.inputs} x {self.outputs}, bound {self.bound})"

    def wrong_rows(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Indices (int64, ascending) of the rows of y (T x D, int64) that are not those of x W; x is T x K.

        Raises ValueError when a shape is not that, or the values are no signed integers.
        """
        check_answered(x, y, self.inputs, self.outputs)
        wrong = np.empty(len(y), np.bool_)
        arguments = _in_kernel_type(x), np.ascontiguousarray(y, np.int64), self.bound, self._secret, self._image, wrong
        if len(y):
            in_ranges(_compare, len(y), *arguments, block=_rows_per_thread(self.inputs + self.outputs))
        return np.flatnonzero(wrong)

    def accepts(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Whether every row of y (T x D, int64) is that of x W; raises ValueError as `wrong_rows` does."""
        return not len(self.wrong_rows(x, y))


def check_answered(x: np.ndarray, y: np.ndarray, inputs: int, outputs: int) -> None:
    """Nothing; raises ValueError unless x is T x inputs, y is T x outputs, and both hold signed integers."""
    for name, matrix, columns in (("x", x, inputs), ("y", y, outputs)):
        if matrix.ndim != 2 or matrix.shape[1] != columns or matrix.dtype.kind != "i":
            raise ValueError(f"{name} must be rows of {columns} signed integers, it is {matrix.shape} of {matrix.dtype}")
    if len(x) != len(y):
        raise ValueError(f"an answer to {len(x)} rows has as many rows, this one has {len(y)}")


def _in_kernel_type(matrix: np.ndarray) -> np.ndarray:
    """The same integers contiguous, as int8 or int16 if they are, otherwise as int64: the types that kernels are made for."""
    return np.ascontiguousarray(matrix, matrix.dtype if matrix.dtype in (np.int8, np.int16) else np.int64)


def _rows_per_thread(columns: int) -> int:
    return max(1, _VALUES_PER_THREAD // columns)


@numba.njit(nogil=True, cache=True)
def _dot(row, vector):
    """Product of two vectors of the same length modulo 2^64."""
    total = np.int64(0)
    for i in range(vector.size):
        total += row[i] * vector[i]
    return total


@numba.njit(nogil=True, cache=True)
def _is_beyond(row, bound):
    """Whether some |value| is larger than the bound; by the sign of differences, because that compiles to vector operations."""
    signs = np.int64(0)
    for i in range(row.size):
        signs |= (bound - row[i]) | (bound + row[i])
    return signs < 0


@numba.njit(nogil=True, cache=True)
def _multiply(start, stop, matrix, vectors, products):
    """Rows start..stop-1 of the matrix times each vector modulo 2^64, vectors x rows."""
    for row in range(start, stop):
        for i in range(len(vectors)):
            products[i, row] = _dot(matrix[row], vectors[i])


@numba.njit(nogil=True, cache=True)
def _compare(start, stop, x, y, bound, secret, image, wrong):
    """Mark the rows start..stop-1 of y that are out of bounds, or whose products are not those of x."""
    for row in range(start, stop):
        wrong[row] = _is_beyond(y[row], bound)
        for i in range(len(secret)):
            wrong[row] |= _dot(x[row], image[i]) != _dot(y[row], secret[i])
