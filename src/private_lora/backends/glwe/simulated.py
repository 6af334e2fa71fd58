"""`glwe_simulated`: what the paper's scheme does to an integer product, without encrypting: noise and 27-bit wrap-around."""

from __future__ import annotations

import numpy as np

from private_lora.backends.clear.arithmetic import ExactProduct
from private_lora.backends.contract import ClearMessage, Plan, Server, check_integer_weight, integer_bits
from private_lora.backends.glwe.backend import NOISE_STD, RESULT_BITS, checked_bound
from private_lora.backends.simulated import SimulatedBackend


class GlweSimulatedBackend(SimulatedBackend):
    """Integer product plus rounded N(0, noise_std^2), wrapped to 27 bits; refuses the same plans as `glwe`.

    noise_std: in integer units; the default is what the bundled noise profiles of concrete-ml-extensions show (19.05), see
    resources/reference.
    """

    name = "glwe_simulated"

    def __init__(self, device: str = "cpu", seed: int = 0, noise_std: float = NOISE_STD):
        super().__init__(device, seed)
        self.noise_std = noise_std

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        check_integer_weight(weight)
        bound = checked_bound(weight, activation_bits, self.noise_std)
        return Plan(
            self.name,
            *weight.shape,
            activation_bits,
            integer_bits(weight),
            bound,
            exact=False,
            noise_std=self.noise_std,
            parameters={"result_bits": RESULT_BITS, "noise_std": self.noise_std},
        )

    def server(self, plan: Plan, weight: np.ndarray) -> GlweSimulatedServer:
        return GlweSimulatedServer(plan, weight, self.generator)


class GlweSimulatedServer(Server):
    """The exact product with the scheme's error added."""

    def __init__(self, plan: Plan, weight: np.ndarray, generator: np.random.Generator):
        super().__init__(plan)
        self._product = ExactProduct(weight, plan.activation_bits)
        self._generator = generator

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        product = self._product(message.values)
        noise = self._generator.standard_normal(product.shape, dtype=np.float32) * np.float32(self.plan.noise_std)
        return ClearMessage(wrap(product + np.rint(noise).astype(np.int64)))


def wrap(values: np.ndarray) -> np.ndarray:
    """Integers reduced to the 27 signed bits that the scheme keeps of a result."""
    half = 2 ** (RESULT_BITS - 1)
    return (values + half) % (2 * half) - half
