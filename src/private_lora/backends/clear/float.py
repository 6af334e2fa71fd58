"""`float`: the plain product in float32 or bfloat16, the baseline that nothing quantizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from private_lora.backends.clear.arithmetic import by_columns, onednn_product
from private_lora.backends.contract import ClearBackend, ClearMessage, Client, Plan, Server, accumulator_bound
from private_lora.core.errors import UserError


@dataclass(frozen=True)
class FloatType:
    """A type of torch's. largest: up to which it holds every integer. rounding: largest relative error of a rounded value."""

    dtype: torch.dtype
    largest: int
    rounding: float


FLOAT32 = FloatType(torch.float32, 2**24, 2.0**-24)
TYPES = {"float32": FLOAT32, "bfloat16": FloatType(torch.bfloat16, 2**8, 2.0**-9)}


class FloatBackend(ClearBackend):
    """Takes float matrices as they are; integers are multiplied as floats and rounded to the nearest.

    dtype: `float32`, or `bfloat16`, to which weights, rows and answers are then rounded. library: of the float32 product on a
    CPU, `torch` or `onednn`.
    """

    name = "float"

    def __init__(self, device: str = "cpu", dtype: str = "float32", library: str = "torch"):
        super().__init__(device)
        if library == "onednn" and (dtype != "float32" or device != "cpu"):
            raise UserError("library onednn of backend float multiplies float32 on the CPU: leave out dtype, device or library")
        self.dtype, self.library = dtype, library

    def plan(self, weight: np.ndarray, activation_bits: int | None = None) -> Plan:
        inputs, outputs = weight.shape
        bound = accumulator_bound(weight, activation_bits) if activation_bits else 0
        exact = bool(activation_bits) and bound <= TYPES[self.dtype].largest
        noise = 0.0 if exact else self._rounding(inputs) * bound
        parameters = {} if self.dtype == "float32" else {"dtype": self.dtype}
        common = self.name, inputs, outputs, activation_bits, None, bound
        return Plan(*common, exact=exact, noise_std=noise, parameters=parameters)

    def _rounding(self, inputs: int) -> float:
        """Worst error of a product of K terms, in units of sum |x||w|: K roundings of float32 sums (Higham, 2002, section 3.1).

        In a narrower type row, weight and answer are rounded besides.
        """
        sums = inputs * FLOAT32.rounding
        return sums if self.dtype == "float32" else sums + 3 * TYPES[self.dtype].rounding

    def client(self, plan: Plan, keys=None) -> FloatClient:
        return FloatClient(plan)

    def server(self, plan: Plan, weight: np.ndarray) -> FloatServer:
        if self.library == "onednn":
            return OneDnnServer(plan, weight)
        return FloatServer(plan, weight, TYPES[self.dtype].dtype)


class FloatClient(Client):
    """Passes rows on in float32; gives integers back where integers came in."""

    def encrypt(self, x: np.ndarray) -> ClearMessage:
        if x.ndim != 2 or x.shape[1] != self.plan.inputs:
            raise ValueError(f"activations must be rows of {self.plan.inputs} values, their shape is {x.shape}")
        self._integers = np.issubdtype(x.dtype, np.integer)
        return ClearMessage(np.ascontiguousarray(x, dtype=np.float32))

    def decrypt(self, message: ClearMessage) -> np.ndarray:
        return np.rint(message.values).astype(np.int64) if self._integers else message.values


class FloatServer(Server):
    """One weight, K x D, in its type; bf16 in the order of its columns."""

    def __init__(self, plan: Plan, weight: np.ndarray, dtype: torch.dtype):
        super().__init__(plan)
        self._weight = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32)).to(dtype)
        if dtype == torch.bfloat16:
            self._weight = by_columns(self._weight)

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        rows = torch.from_numpy(message.values).to(self._weight.dtype)
        return ClearMessage((rows @ self._weight).float().numpy())


class OneDnnServer(Server):
    """The float32 weight as oneDNN takes it, D x K."""

    def __init__(self, plan: Plan, weight: np.ndarray):
        super().__init__(plan)
        self._weight = torch.from_numpy(np.ascontiguousarray(weight.T, dtype=np.float32))

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        return ClearMessage(onednn_product(torch.from_numpy(message.values), self._weight).numpy())
