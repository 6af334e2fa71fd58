"""What a worker holds, as plain data."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.backends import BACKENDS, remote_backends
from private_lora.specs.base import Spec, check_backend, check_bits, check_range, options_by_backend
from private_lora.specs.fields import Bits, ConstantRows, NotNegative, Positive, Weights
from private_lora.specs.quantization import Quantization
from private_lora.specs.quantizers import WEIGHT_QUANTIZERS
from private_lora.specs.ranges import parse_ranges
from private_lora.specs.sentences import one_of, valid


def check_remote(backend: str) -> None:
    """Nothing; raises UserError for a backend that no worker can serve."""
    check_name("backend", backend, BACKENDS)
    if not BACKENDS[backend].remote:
        raise UserError(f"backend {backend!r} does not run at workers: take one of {', '.join(remote_backends())}")


class WorkerSpec(Spec):
    """Which layers of which model a worker holds, and how it quantizes them. Fields as in `RunSpec`."""

    model_config = ConfigDict(json_schema_extra=options_by_backend)

    model: str
    """built-in name, local directory or hub id, as of the run"""
    backend: str
    """packed, packed_approx or glwe; integer and float see activations in the clear"""
    layers: str = ""
    """transformer blocks to hold, such as 0-7 or 0-3,8-11; default: all"""
    revision: str | None = None
    """commit, tag or branch of a hub model"""
    weights: Weights = "pretrained"
    """pretrained, or random for measurements of cost"""
    seed: NotNegative = 0
    """of random weights"""
    blocks: Positive | None = None
    """only the model's first so many transformer blocks, as of the run"""
    backend_options: dict[str, Any] = Field(default_factory=dict)
    """JSON, as of the run"""
    device: str = "cpu"
    """cpu or cuda"""
    activation_bits: Bits | None = None
    """2 to 16, as of the run"""
    weight_bits: Bits | None = None
    """2 to 16, as of the run"""
    weight_quantizer: one_of("weight quantizer", WEIGHT_QUANTIZERS) = "static_per_channel"
    """as of the run"""
    constant_rows: ConstantRows = "exact"
    """as of the run"""
    share_inputs: bool = True
    """q, k, v are one product, gate, up another, as of the run"""

    backward: bool = True
    """hold the weights of gradients too; generation needs none of them"""

    @model_validator(mode="after")
    def _can_be_served(self) -> Self:
        valid(check_remote, self.backend)
        valid(check_backend, self.backend, self.device, self.backend_options)
        valid(check_bits, self.backend, self.activation_bits, self.weight_bits)
        valid(check_range, self.backend, self.activation_bits, self.weight_bits, self.backend_options)
        try:
            parse_ranges(self.layers)
        except UserError as error:
            raise ValueError(f"layers: {error}") from None
        return self

    @property
    def quantization(self) -> Quantization:
        """For weights; what quantizes activations is the client's business."""
        return Quantization(
            "dynamic_per_token", self.weight_quantizer, self.activation_bits, self.weight_bits, self.constant_rows
        )
