"""`float`: the plain product of rows that nothing quantizes, the baseline; its weights are held in 32, 16, 8 or 4 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from private_lora.backends.clear.arithmetic import onednn_product
from private_lora.backends.clear.held import GROUP, LARGEST, HeldWeight, WidenedWeight, hold
from private_lora.backends.contract import ClearBackend, ClearMessage, Client, Plan, Server, accumulator_bound
from private_lora.core.errors import UserError


@dataclass(frozen=True)
class FloatType:
    """Of rows and answers. largest: up to which it holds every integer. rounding: largest relative error of a rounded value."""

    largest: int
    rounding: float


FLOAT32 = FloatType(2**24, 2.0**-24)
BFLOAT16 = FloatType(2**8, 2.0**-9)


class FloatBackend(ClearBackend):
    """Takes float matrices as they are; integers are multiplied as floats and rounded to the nearest.

    dtype: `float32`; `bfloat16`, to which weights, rows and answers are then rounded; `int8` or `int4`, of weights alone, as
    `clear.held` says. library: of the float32 product on a CPU, `torch` or `onednn`.

    A weight and, right after it, its transpose in the same memory are held once; but `onednn` wants both.
    """

    name = "float"

    def __init__(self, device: str = "cpu", dtype: str = "float32", library: str = "torch"):
        super().__init__(device)
        if library == "onednn" and (dtype != "float32" or device != "cpu"):
            raise UserError("library onednn of backend float multiplies float32 on the CPU: leave out dtype, device or library")
        self.dtype, self.library = dtype, library
        self._last: tuple[np.ndarray, HeldWeight] | None = None
        self._widens = False

    def plan(self, weight: np.ndarray, activation_bits: int | None = None) -> Plan:
        inputs, outputs = weight.shape
        bound = accumulator_bound(weight, activation_bits) if activation_bits else 0
        exact = bool(activation_bits) and self.dtype not in LARGEST and bound <= self._type.largest
        noise = 0.0 if exact else self._rounding(inputs) * bound + self._level_error(weight, activation_bits)
        parameters = {} if self.dtype == "float32" else {"dtype": self.dtype}
        common = self.name, inputs, outputs, activation_bits, None, bound
        return Plan(*common, exact=exact, noise_std=noise, parameters=parameters)

    @property
    def _type(self) -> FloatType:
        return BFLOAT16 if self.dtype == "bfloat16" else FLOAT32

    def _rounding(self, inputs: int) -> float:
        """Worst error of a product of K terms, in units of sum |x||w|: K roundings of float32 sums (Higham, 2002, section 3.1).

        In a narrower type row, weight and answer are rounded besides, as are scales and sums of integer levels.
        """
        sums = inputs * FLOAT32.rounding
        return sums if self.dtype == "float32" else sums + 3 * BFLOAT16.rounding

    def _level_error(self, weight: np.ndarray, activation_bits: int | None) -> float:
        """Worst error of a product of `activation_bits`-bit rows by levels instead of entries: half a level for each entry."""
        if self.dtype not in LARGEST or not activation_bits:
            return 0.0
        starts = np.arange(0, len(weight), GROUP)
        sizes = np.diff(np.append(starts, len(weight)))
        largest = np.maximum.reduceat(np.abs(weight.astype(np.float64)), starts, axis=0)
        return 2 ** (activation_bits - 1) * float((sizes @ largest).max()) / (2 * LARGEST[self.dtype])

    def client(self, plan: Plan, keys=None) -> FloatClient:
        return FloatClient(plan)

    def server(self, plan: Plan, weight: np.ndarray) -> Server:
        if self.library == "onednn":
            return OneDnnServer(plan, weight)
        last, self._last = self._last, None
        if last is not None and _is_transpose(last[0], weight):
            return FloatServer(plan, last[1], transposed=True)
        held = hold(weight, self.dtype)
        self._last = weight, held
        self._widens = isinstance(held, WidenedWeight)
        return FloatServer(plan, held)

    def report(self) -> dict:
        """Which arithmetic multiplied."""
        if self._widens:
            return {"product": f"weights held in {self.dtype}, widened in blocks at each call and multiplied in float32"}
        return {"product": f"{self.library}, {self.dtype}"}


def _is_transpose(held: np.ndarray, weight: np.ndarray) -> bool:
    """Whether both are the same memory, one the other's transpose."""
    same = held.ctypes.data == weight.ctypes.data and held.dtype == weight.dtype
    return same and (held.shape, held.strides) == (weight.shape[::-1], weight.strides[::-1])


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
    """A held weight, or its transpose."""

    def __init__(self, plan: Plan, held: HeldWeight, transposed: bool = False):
        super().__init__(plan)
        self._held, self._transposed = held, transposed

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        rows = torch.from_numpy(message.values)
        return ClearMessage(self._held.product(rows, self._transposed).numpy())


class OneDnnServer(Server):
    """The float32 weight as oneDNN takes it, D x K."""

    def __init__(self, plan: Plan, weight: np.ndarray):
        super().__init__(plan)
        self._weight = torch.from_numpy(np.ascontiguousarray(weight.T, dtype=np.float32))

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        return ClearMessage(onednn_product(torch.from_numpy(message.values), self._weight).numpy())
