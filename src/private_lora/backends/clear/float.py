"""`float`: the plain float32 product, the baseline that nothing quantizes."""

from __future__ import annotations

import numpy as np
import torch

from private_lora.backends.contract import ClearBackend, ClearMessage, Client, Plan, Server, accumulator_bound


class FloatBackend(ClearBackend):
    """Plain float32. Takes float matrices as they are; integers are multiplied in float32 and rounded to the nearest."""

    name = "float"

    def plan(self, weight: np.ndarray, activation_bits: int | None = None) -> Plan:
        inputs, outputs = weight.shape
        bound = accumulator_bound(weight, activation_bits) if activation_bits else 0
        # Error of a float32 dot product of K terms, worst case: K * 2^-24 * sum |x||w| (Higham, 2002, section 3.1).
        exact = bool(activation_bits) and bound <= 2**24
        noise = 0.0 if exact else inputs * 2.0**-24 * bound
        return Plan(self.name, inputs, outputs, activation_bits, None, bound, exact=exact, noise_std=noise)

    def client(self, plan: Plan, keys=None) -> FloatClient:
        return FloatClient(plan)

    def server(self, plan: Plan, weight: np.ndarray) -> FloatServer:
        return FloatServer(plan, weight)


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
    """One float32 weight, K x D."""

    def __init__(self, plan: Plan, weight: np.ndarray):
        super().__init__(plan)
        self._weight = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32))

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        return ClearMessage((torch.from_numpy(message.values) @ self._weight).numpy())
