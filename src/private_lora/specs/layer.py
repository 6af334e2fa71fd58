"""A measurement of one linear layer as plain data."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from private_lora.specs.backends import BACKENDS
from private_lora.specs.base import Spec, check_backend, check_bits, options_by_backend
from private_lora.specs.fields import Bits, NotNegative, Positive
from private_lora.specs.sentences import one_of, valid


class LayerSpec(Spec):
    """One latency measurement: an encrypted linear layer of `inputs` x `outputs` on `rows` rows, operation by operation."""

    model_config = ConfigDict(json_schema_extra=options_by_backend)

    run_id: str
    backend: one_of("backend", BACKENDS)
    rows: Positive
    inputs: Positive
    outputs: Positive
    stage: str = "layer"
    device: str = "cpu"
    backend_options: dict[str, Any] = Field(default_factory=dict)
    activation_bits: Bits | None = None
    weight_bits: Bits | None = None
    repeats: Positive = 3
    warmup: NotNegative = 1
    seed: NotNegative = 0

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        valid(check_backend, self.backend, self.device, self.backend_options)
        if BACKENDS[self.backend].kind != "matmul":
            raise ValueError(f"backend {self.backend!r} has no separate linear layer to time")
        if BACKENDS[self.backend].quantized:
            valid(check_bits, self.backend, self.activation_bits, self.weight_bits)
        return self
