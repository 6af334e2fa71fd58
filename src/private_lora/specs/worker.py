"""What a worker holds, as plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.base import check_bits
from private_lora.specs.quantization import Quantization
from private_lora.specs.registry import (
    ACTIVATION_QUANTIZERS,
    BACKENDS,
    REMOTE_BACKENDS,
    WEIGHT_QUANTIZERS,
)


def check_remote(backend: str) -> None:
    """Nothing; raises UserError for a backend that no worker can serve."""
    check_name("backend", backend, BACKENDS)
    if backend not in REMOTE_BACKENDS:
        raise UserError(f"backend {backend!r} does not run at workers: take one of {', '.join(REMOTE_BACKENDS)}")


@dataclass(frozen=True)
class WorkerSpec:
    """Which layers of which model a worker holds, and how it quantizes them. Fields as in `RunSpec`.

    layers: transformer blocks such as `0-7`, `3` or `0-3,8-11`; empty for all. seed: of random weights.
    """

    model: str
    backend: str
    layers: str = ""
    revision: str | None = None
    weights: str = "pretrained"
    seed: int = 0
    blocks: int | None = None
    backend_options: dict = field(default_factory=dict)
    device: str = "cpu"
    activation_bits: int | None = None
    weight_bits: int | None = None
    weight_quantizer: str = "static_per_channel"
    constant_rows: str = "exact"
    share_inputs: bool = True

    def check(self) -> None:
        """Nothing; raises UserError on what cannot be served."""
        check_remote(self.backend)
        check_name("weight quantizer", self.weight_quantizer, WEIGHT_QUANTIZERS)
        check_name("constant_rows", self.constant_rows, ("exact", "reference"))
        check_name("weights", self.weights, ("pretrained", "random"))
        if BACKENDS[self.backend].quantized:
            check_bits("activation_bits", self.activation_bits)
            check_bits("weight_bits", self.weight_bits)
        elif self.activation_bits is not None or self.weight_bits is not None:
            raise UserError(f"backend {self.backend!r} does not quantize: leave out activation and weight bits")

    @property
    def quantization(self) -> Quantization:
        """For weights; what quantizes activations is the client's business."""
        return Quantization(
            ACTIVATION_QUANTIZERS[0], self.weight_quantizer, self.activation_bits, self.weight_bits, self.constant_rows
        )


def parse_range(text: str) -> set[int]:
    """`3` or `0-7`; raises UserError otherwise."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match:
        raise UserError(f"--layers: {text!r} is no block or range of blocks, such as 3 or 0-7")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise UserError(f"--layers: the range {text!r} ends before it begins")
    return set(range(first, last + 1))
