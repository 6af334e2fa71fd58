"""How a run quantizes, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantization:
    """How a run quantizes, forward and backward alike; None bits for a backend that does not."""

    activation_quantizer: str
    weight_quantizer: str
    activation_bits: int | None
    weight_bits: int | None
    constant_rows: str = "exact"
