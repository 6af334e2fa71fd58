"""`glwe_simulated`: what the paper's scheme does to an integer product, without encrypting: noise and 27-bit wrap-around."""

from __future__ import annotations

import numpy as np

from private_lora.backends.clear.arithmetic import ExactProduct
from private_lora.backends.contract import (
    ClearMessage,
    Plan,
    Server,
    accumulator_bound,
    check_integer_weight,
    integer_bits,
    lowest_bits,
    unsigned_accumulator_bound,
)
from private_lora.backends.glwe.backend import NOISE_STD, RESULT_BITS, checked_bound
from private_lora.backends.simulated import SimulatedBackend


class GlweSimulatedBackend(SimulatedBackend):
    """Integer product plus rounded N(0, noise_std^2), wrapped to 27 bits.

    noise_std: in integer units; the default is what the bundled noise profiles of concrete-ml-extensions show (19.05), see
    resources/reference. overflow: `refuse` the plans that `glwe` refuses, or let their sums `wrap` around. All backends here
    multiply signed activations. The reference implementation multiplies unsigned ones, x + 2^(bits-1), whose sums are larger by
    2^(bits-1) times the column sums of the weight: `wrap_unsigned` is what happens to these.
    """

    name = "glwe_simulated"

    def __init__(self, device: str = "cpu", seed: int = 0, noise_std: float = NOISE_STD, overflow: str = "refuse"):
        super().__init__(device, seed)
        self.noise_std, self.overflow = noise_std, overflow

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        check_integer_weight(weight)
        parameters = {"result_bits": RESULT_BITS, "noise_std": self.noise_std}
        if self.overflow == "refuse":
            bound = checked_bound(weight, activation_bits, self.noise_std)
        else:
            bound = accumulator_bound(weight, activation_bits)
            is_unsigned = self.overflow == "wrap_unsigned"
            worst = unsigned_accumulator_bound(weight, activation_bits) if is_unsigned else bound
            parameters |= {"overflow": self.overflow, "accumulator_bits": worst.bit_length() + 1}
        return Plan(
            self.name,
            *weight.shape,
            activation_bits,
            integer_bits(weight),
            bound,
            exact=False,
            noise_std=self.noise_std,
            parameters=parameters,
        )

    def server(self, plan: Plan, weight: np.ndarray) -> GlweSimulatedServer:
        return GlweSimulatedServer(plan, weight, self.generator)


class GlweSimulatedServer(Server):
    """The exact product with the scheme's error added."""

    def __init__(self, plan: Plan, weight: np.ndarray, generator: np.random.Generator):
        super().__init__(plan)
        self._product = ExactProduct(weight, plan.activation_bits)
        self._generator = generator
        # What unsigned activations add to every sum of a column.
        is_unsigned = plan.parameters.get("overflow") == "wrap_unsigned"
        self._shift = 2 ** (plan.activation_bits - 1) * weight.sum(axis=0, dtype=np.int64) if is_unsigned else 0

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        product = self._product(message.values)
        noise = self._generator.standard_normal(product.shape, dtype=np.float32) * np.float32(self.plan.noise_std)
        return ClearMessage(wrap(product + self._shift + np.rint(noise).astype(np.int64)) - self._shift)


def wrap(values: np.ndarray) -> np.ndarray:
    """Integers reduced to the 27 signed bits that the scheme keeps of a result."""
    return lowest_bits(values, RESULT_BITS)
