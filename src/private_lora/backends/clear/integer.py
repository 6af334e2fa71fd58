"""`integer`: the exact product of the quantized matrices, ground truth for every encrypted backend."""

from __future__ import annotations

import numpy as np

from private_lora.backends.clear.arithmetic import ExactProduct
from private_lora.backends.contract import (
    ClearBackend,
    ClearMessage,
    Plan,
    Server,
    accumulator_bound,
    check_integer_weight,
    integer_bits,
)


class IntegerBackend(ClearBackend):
    """Exact integers in the clear; refuses what would not fit 63 bits."""

    name = "integer"

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        check_integer_weight(weight)
        bound = accumulator_bound(weight, activation_bits)
        if bound >= 2**63:
            raise ValueError(f"outputs could reach {bound.bit_length()} bits, over the 63 of int64: use fewer bits")
        return Plan(self.name, *weight.shape, activation_bits, integer_bits(weight), bound)

    def server(self, plan: Plan, weight: np.ndarray) -> IntegerServer:
        return IntegerServer(plan, weight)


class IntegerServer(Server):
    """The weight in the type of the fastest exact kernel."""

    def __init__(self, plan: Plan, weight: np.ndarray):
        super().__init__(plan)
        self._product = ExactProduct(weight, plan.activation_bits)

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        return ClearMessage(self._product(message.values))
