"""Exact integer matrix products at the speed of int8, float32 or float64 kernels: the fastest that cannot round."""

from __future__ import annotations

import numba
import numpy as np
import torch

from private_lora.backends.contract import accumulator_bound, integer_bits
from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.planes import DIGIT_OFFSET, weight_digits

# Largest integers below which every integer is a float of the type; a sum that never passes it never rounds.
FLOAT_LIMITS = {"float32": 2**24, "float64": 2**53}
DTYPES = {"int8": torch.int8, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64}
# Two digits of 8 bits on either side; sums of this many products of two digits fit 32 bits.
DIGITS, DIGIT_BITS, DIGIT_INPUTS = "int8 digits", 16, 2**17


def int8_is_fast() -> bool:
    """Whether this CPU multiplies int8 with hardware sums of products (VNNI or AMX) through oneDNN."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


def onednn_product(x: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
    """x W in float32 by oneDNN, from the transposed weight (D x K).

    torch.matmul calls MKL, which is half as fast on processors of AMD's.
    """
    return torch.ops.mkldnn._linear_pointwise(x, transposed, None, "none", [], "")


def by_columns(weight: torch.Tensor) -> torch.Tensor:
    """The same weight (K x D) with each column in one piece, as torch's own linear layers have it.

    Without units for bf16, on processors with AVX2 alone, torch multiplies such a weight in bf16 ten times faster than one in
    the order of its rows.
    """
    return weight.T.contiguous().T


def choose_kernel(weight: np.ndarray, activation_bits: int) -> str:
    """`int8`, `int8 digits`, `float32`, `float64` or `int64`: the fastest that is exact for every input of these bits."""
    bound, most_bits = accumulator_bound(weight, activation_bits), max(activation_bits, integer_bits(weight))
    if most_bits <= 8 and bound < 2**31 and int8_is_fast():
        return "int8"
    if FLOAT_LIMITS["float32"] < bound < 2**63 and most_bits <= DIGIT_BITS and len(weight) < DIGIT_INPUTS and int8_is_fast():
        return DIGITS
    return next((name for name, limit in FLOAT_LIMITS.items() if bound <= limit), "int64")


class ExactProduct:
    """x W over the integers for one weight (K x D), kept in the kernel's own type.

    Partial sums are bounded by `accumulator_bound`, so a float kernel below its limit gives the integers, in any order of
    summation and with or without fused multiply-add.
    """

    def __init__(self, weight: np.ndarray, activation_bits: int, kernel: str | None = None):
        self.kernel = kernel or choose_kernel(weight, activation_bits)
        self._digits = _DigitProduct(weight) if self.kernel == DIGITS else None
        if self._digits is None:
            self._weight = torch.from_numpy(np.ascontiguousarray(weight)).to(DTYPES[self.kernel]).contiguous()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """T x D int64 from T x K integers within the bits given at construction."""
        if self._digits is not None:
            return self._digits(x)
        rows = torch.from_numpy(np.ascontiguousarray(x)).to(self._weight.dtype)
        if self.kernel == "int8":
            return torch._int_mm(rows, self._weight).to(torch.int64).numpy()
        return (rows @ self._weight).to(torch.int64).numpy()


class _DigitProduct:
    """x W for integers of up to 16 bits on either side, by one product of their 8-bit digits."""

    def __init__(self, weight: np.ndarray):
        self._weight = torch.from_numpy(weight_digits(weight, DIGIT_BITS))
        self._column_sums = weight.sum(axis=0, dtype=np.int64)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """T x D int64."""
        # Unsigned ones would not have a signed upper digit.
        shift = 2**15 if x.size and x.min() >= 0 else 0
        digits = weight_digits(np.ascontiguousarray((x.astype(np.int32) - shift).T), DIGIT_BITS).T
        rows = torch.from_numpy(np.ascontiguousarray(digits))
        products = torch._int_mm(rows, self._weight).numpy()
        row_sums = digits.sum(axis=1, dtype=np.int64)
        out = np.empty((len(x), len(self._column_sums)), np.int64)
        columns = (DIGIT_OFFSET + shift) * self._column_sums
        in_ranges(_join, len(x), products, row_sums, columns, out)
        return out


@numba.njit(nogil=True, cache=True)
def _join(start, stop, products, row_sums, columns, out):
    """Rows start..stop-1 of the product (T x D) from those of all pairs of digits (2T x 2D)."""
    rows, width = out.shape
    for t in range(start, stop):
        low, high = DIGIT_OFFSET * row_sums[t], DIGIT_OFFSET * row_sums[rows + t]
        for d in range(width):
            below = products[t, d] + 256 * np.int64(products[t, width + d]) + low
            above = products[rows + t, d] + 256 * np.int64(products[rows + t, width + d]) + high
            out[t, d] = below + 256 * above + columns[d]
