"""What the simulated backends share: integers in the clear, and noise that is a function of (seed, step)."""

from __future__ import annotations

import numpy as np

from private_lora.backends.contract import ClearBackend


class SimulatedBackend(ClearBackend):
    """seed: of the noise, which protects nothing and so may be reproducible."""

    def __init__(self, device: str = "cpu", seed: int = 0):
        super().__init__(device)
        self._seed = seed
        self.generator = np.random.Generator(np.random.PCG64([seed, 0]))

    def start_step(self, step: int) -> None:
        # In place: the servers hold this generator. A resumed run then sees the noise of an uninterrupted one.
        self.generator.bit_generator.state = np.random.PCG64([self._seed, step]).state
