"""A measurement of one linear layer as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.base import Spec, _check_integer, check_bits
from private_lora.specs.registry import (
    BACKENDS,
)


@dataclass(frozen=True)
class LayerSpec(Spec):
    """One latency measurement: an encrypted linear layer of `inputs` x `outputs` on `rows` rows, stage by stage."""

    run_id: str
    backend: str
    rows: int
    inputs: int
    outputs: int
    stage: str = "layer"
    device: str = "cpu"
    backend_options: dict = field(default_factory=dict)
    activation_bits: int | None = None
    weight_bits: int | None = None
    repeats: int = 3
    warmup: int = 1
    seed: int = 0

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        check_name("backend", self.backend, BACKENDS)
        check_name(f"device for backend {self.backend}", self.device, BACKENDS[self.backend].devices)
        if BACKENDS[self.backend].kind != "matmul":
            raise UserError(f"backend {self.backend!r} has no separate linear layer to time")
        if BACKENDS[self.backend].quantized:
            check_bits("activation_bits", self.activation_bits)
            check_bits("weight_bits", self.weight_bits)
        for name in ("rows", "inputs", "outputs", "repeats"):
            _check_integer(name, getattr(self, name), 1)
        for name in ("warmup", "seed"):
            _check_integer(name, getattr(self, name), 0)
