"""Plaintext products of integer matrices in types of torch's own: what encrypted products are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from private_lora.backends.clear.arithmetic import DTYPES, choose_kernel, onednn_product
from private_lora.backends.clear.held import GroupedWeight, hold, multiplies_bfloat16
from private_lora.crypto.kernels import CUDA_ROWS, padded_for_cuda, right_for_cuda
from private_lora.split.stopwatch import Stopwatch

FLOAT32_ERROR = 2.0**-20  # of the largest possible sum: worse is no rounding of float32
# bf16 has 8 significant bits, so an answer is rounded by up to 2^-8 of itself; where a GPU splits the inputs of a sum and adds
# the parts in bf16, each of them is too: as much again.
BF16_ERROR = 2.0**-7


@dataclass(frozen=True)
class PlaintextType:
    """How torch multiplies in one type.

    sum_error: largest error of an answer in units of the largest possible sum. answer_error: in units of the largest answer.
    """

    dtype: torch.dtype
    sum_error: float = 0.0
    answer_error: float = 0.0


# int32 and float64 hold every sum of these products; bf16 is summed as float32 and rounded at the end.
TYPES = {
    "plaintext_float32": PlaintextType(torch.float32, FLOAT32_ERROR),
    "plaintext_float32_onednn": PlaintextType(torch.float32, FLOAT32_ERROR),
    "plaintext_float64": PlaintextType(torch.float64),
    "plaintext_bf16": PlaintextType(torch.bfloat16, FLOAT32_ERROR, BF16_ERROR),
    "plaintext_int8": PlaintextType(torch.int8),
}


class FourBitProduct:
    """x W for a float weight (K x D) in 4 bits, as the backend `float` with `dtype` int4 holds and multiplies it."""

    def __init__(self, x: np.ndarray, weight: np.ndarray):
        self._outputs = weight.shape[1]
        self._held = GroupedWeight(weight, "int4")
        self._x = torch.from_numpy(x)

    def weight(self) -> torch.Tensor:
        """The weight that is multiplied, K x D."""
        return self._held.widened(0, self._outputs).T

    def __call__(self) -> tuple[dict, np.ndarray]:
        """As of PlaintextProduct."""
        watch = Stopwatch()
        y = self._held.product(self._x, transposed=False)
        return {"matmul_time_s": (watch.lap(), "s")}, y.numpy()


class PlaintextProduct:
    """x W in one of TYPES, by name, for integer x (T x K) and weight (K x D), converted and on the device beforehand.

    int8 on a CPU without units for it: in the float type that holds every sum, tens of times faster than torch's int8 product.
    """

    def __init__(self, name: str, x: np.ndarray, weight: np.ndarray, device: str):
        self._shape = len(x), weight.shape[1]
        dtype = TYPES[name].dtype
        if dtype == torch.int8 and device == "cpu":
            dtype = DTYPES[choose_kernel(weight, 8)]
        self._x, self._weight = (torch.from_numpy(matrix).to(device, dtype) for matrix in (x, weight))
        self._multiply = torch._int_mm if dtype == torch.int8 else torch.matmul
        if name == "plaintext_float32_onednn":
            self._multiply, self._weight = onednn_product, self._weight.T.contiguous()
        if dtype == torch.bfloat16 and device == "cpu" and not multiplies_bfloat16():
            held = hold(weight, "bfloat16")
            self._multiply = lambda x, _: held.product(x, transposed=False)
        if dtype == torch.int8 and device != "cpu":
            self._x, self._weight = padded_for_cuda(self._x, CUDA_ROWS), right_for_cuda(self._weight)

    def __call__(self) -> tuple[dict, np.ndarray]:
        """Seconds of the product alone, as the metric `matmul_time_s`, and the answer (T x D)."""
        synchronize(self._x.device.type)
        watch = Stopwatch()
        y = self._multiply(self._x, self._weight)
        synchronize(self._x.device.type)
        times = {"matmul_time_s": (watch.lap(), "s")}
        rows, columns = self._shape
        # NumPy has no bf16.
        y = y[:rows, :columns].float() if y.dtype == torch.bfloat16 else y[:rows, :columns]
        return times, y.cpu().numpy()


def synchronize(device: str) -> None:
    """Nothing, once the device has done all that it was asked for: a GPU works on while Python goes on."""
    if device == "cuda":
        torch.cuda.synchronize()
