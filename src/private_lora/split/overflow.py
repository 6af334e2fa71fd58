"""Outputs that wrapped around in the bits that a scheme keeps of a result, counted against the exact integer product."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from private_lora.backends.contract import lowest_bits


@dataclass
class OverflowMeter:
    """By kind of product, such as `mlp.down_proj forward`, over all blocks: outputs compared, and those that wrapped around."""

    checked: dict[str, int] = field(default_factory=dict)
    wrapped: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, error: np.ndarray, result_bits: int) -> np.ndarray:
        """Take in the errors (T x D) of an answer of the product `name`; gives them without the wrap-around, which is noise."""
        kind, noise = kind_of(name), lowest_bits(error, result_bits)
        self.checked[kind] = self.checked.get(kind, 0) + error.size
        self.wrapped[kind] = self.wrapped.get(kind, 0) + int(np.count_nonzero(noise != error))
        return noise


def kind_of(name: str) -> str:
    """`mlp.down_proj forward` of `model.layers.3.mlp.down_proj forward`: the same layer of every block."""
    return ".".join(name.split(".")[-2:])
