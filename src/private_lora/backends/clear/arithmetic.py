"""Exact integer matrix products at the speed of int8, float32 or float64 kernels: the fastest that cannot round."""

from __future__ import annotations

import numpy as np
import torch

from private_lora.backends.contract import accumulator_bound, integer_bits

# Largest integers below which every integer is a float of the type; a sum that never passes it never rounds.
FLOAT_LIMITS = {"float32": 2**24, "float64": 2**53}
DTYPES = {"int8": torch.int8, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64}


def int8_is_fast() -> bool:
    """Whether this CPU multiplies int8 with hardware sums of products (VNNI or AMX) through oneDNN."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


def onednn_product(x: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
    """x W in float32 by oneDNN, from the transposed weight (D x K).

    torch.matmul calls MKL, which is half as fast on processors of AMD's.
    """
    return torch.ops.mkldnn._linear_pointwise(x, transposed, None, "none", [], "")


def choose_kernel(weight: np.ndarray, activation_bits: int) -> str:
    """`int8`, `float32`, `float64` or `int64`: the fastest kernel that is exact for every input of these bits."""
    bound = accumulator_bound(weight, activation_bits)
    if activation_bits <= 8 and integer_bits(weight) <= 8 and bound < 2**31 and int8_is_fast():
        return "int8"
    return next((name for name, limit in FLOAT_LIMITS.items() if bound <= limit), "int64")


class ExactProduct:
    """x W over the integers for one weight (K x D), kept in the kernel's own type.

    Partial sums are bounded by `accumulator_bound`, so a float kernel below its limit gives the integers, in any order of
    summation and with or without fused multiply-add.
    """

    def __init__(self, weight: np.ndarray, activation_bits: int, kernel: str | None = None):
        self.kernel = kernel or choose_kernel(weight, activation_bits)
        self._weight = torch.from_numpy(np.ascontiguousarray(weight)).to(DTYPES[self.kernel]).contiguous()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """T x D int64 from T x K integers within the bits given at construction."""
        rows = torch.from_numpy(np.ascontiguousarray(x)).to(self._weight.dtype)
        if self.kernel == "int8":
            return torch._int_mm(rows, self._weight).to(torch.int64).numpy()
        return (rows @ self._weight).to(torch.int64).numpy()
