"""A model split between a client and a backend, as plain data: what fine-tuning and generation have in common."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from private_lora.specs.backends import BACKENDS
from private_lora.specs.base import Spec, check_backend, check_bits, check_range, options_by_backend
from private_lora.specs.fields import Bits, ConstantRows, NotNegative, Positive, Weights
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from private_lora.specs.sentences import one_of, valid


class SplitSpec(Spec):
    """Which model, who multiplies, how it is quantized. `weight_bits` and `activation_bits` hold forward and backward alike."""

    model_config = ConfigDict(json_schema_extra=options_by_backend)

    model: str
    """built-in name (mini-llama, mini-llama-outlier, nano), local directory or hub id"""
    backend: one_of("backend", BACKENDS)
    """who multiplies"""
    revision: str | None = None
    """commit, tag or branch of a hub model"""
    weights: Weights = "pretrained"
    """pretrained, or random for measurements of cost"""
    device: str = "cpu"
    """cpu or cuda"""
    backend_options: dict[str, Any] = Field(default_factory=dict)
    """of the backend, as JSON: '{"log2_q": 24}'"""
    activation_quantizer: one_of("activation quantizer", ACTIVATION_QUANTIZERS) = "dynamic_per_token"
    """of activations and gradients"""
    weight_quantizer: one_of("weight quantizer", WEIGHT_QUANTIZERS) = "static_per_channel"
    """of weights"""
    activation_bits: Bits | None = None
    """2 to 16; not for backend float"""
    weight_bits: Bits | None = None
    """2 to 16; not for backend float"""
    constant_rows: ConstantRows = "exact"
    """exact, or reference for the reference implementation's scale of 1"""
    share_inputs: bool = True
    """layers with the same input (q, k, v; gate, up) are one remote call"""
    blocks: Positive | None = None
    """only the model's first so many transformer blocks"""
    seed: NotNegative = 0
    """of random weights; never of keys"""

    @model_validator(mode="after")
    def _can_be_split(self) -> Self:
        valid(check_backend, self.backend, self.device, self.backend_options)
        valid(check_bits, self.backend, self.activation_bits, self.weight_bits)
        valid(check_range, self.backend, self.activation_bits, self.weight_bits, self.backend_options)
        return self
