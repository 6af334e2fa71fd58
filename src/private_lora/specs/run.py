"""A fine-tuning run as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.base import Spec, _check_boolean, _check_integer, _check_number, check_bits
from private_lora.specs.registry import (
    ACTIVATION_QUANTIZERS,
    ARCHITECTURES,
    BACKENDS,
    DATASETS,
    WEIGHT_QUANTIZERS,
)


@dataclass(frozen=True)
class RunSpec(Spec):
    """One fine-tuning run. `weight_bits` and `activation_bits` hold forward and backward alike.

    share_inputs: q, k, v are one remote call, and gate, up another; a backend of kind `trainer` has layers of its own.
    recompute: a block's activations are computed again in backward instead of kept. blocks: only the model's first so many.
    """

    run_id: str
    model: str
    data: str
    backend: str
    stage: str = "manual"
    variant: str = ""
    revision: str | None = None
    weights: str = "pretrained"
    data_options: dict = field(default_factory=dict)
    device: str = "cpu"
    backend_options: dict = field(default_factory=dict)
    activation_quantizer: str = "dynamic_per_token"
    weight_quantizer: str = "static_per_channel"
    activation_bits: int | None = None
    weight_bits: int | None = None
    constant_rows: str = "exact"
    share_inputs: bool = True
    recompute: bool = False
    blocks: int | None = None
    lora_rank: int = 8
    lora_alpha: float = 32
    lora_dropout: float = 0.01
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 10
    max_grad_norm: float = 1.0
    lr_schedule: str = "linear"
    steps: int = 100
    batch_size: int = 8
    sequence_length: int = 96
    seed: int = 0
    train_examples: int = 2000
    eval_examples: int = 64
    eval_every: int = 50
    generate_examples: int = 0
    count_padding: bool = False
    checkpoint_every: int = 20

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        check_name("backend", self.backend, BACKENDS)
        check_name("dataset", self.data, DATASETS)
        check_name("activation quantizer", self.activation_quantizer, ACTIVATION_QUANTIZERS)
        check_name("weight quantizer", self.weight_quantizer, WEIGHT_QUANTIZERS)
        check_name("constant_rows", self.constant_rows, ("exact", "reference"))
        check_name("lr_schedule", self.lr_schedule, ("linear", "constant"))
        check_name("weights", self.weights, ("pretrained", "random"))
        check_name(f"device for backend {self.backend}", self.device, BACKENDS[self.backend].devices)
        if BACKENDS[self.backend].quantized:
            check_bits("activation_bits", self.activation_bits)
            check_bits("weight_bits", self.weight_bits)
        elif self.activation_bits is not None or self.weight_bits is not None:
            raise UserError(f"backend {self.backend!r} does not quantize: leave out activation_bits and weight_bits")
        for name in ("steps", "batch_size", "lora_rank", "train_examples", "checkpoint_every"):
            _check_integer(name, getattr(self, name), 1)
        _check_integer("sequence_length", self.sequence_length, 2)
        for name in ("seed", "warmup_steps", "eval_examples", "eval_every", "generate_examples"):
            _check_integer(name, getattr(self, name), 0)
        for name in ("lora_alpha", "lora_dropout", "learning_rate", "weight_decay", "max_grad_norm"):
            _check_number(name, getattr(self, name), 0)
        for name in ("share_inputs", "count_padding", "recompute"):
            _check_boolean(name, getattr(self, name))
        self._check_model()

    def _check_model(self) -> None:
        if self.model in ARCHITECTURES and (self.weights != "random" or self.data != "random_tokens"):
            raise UserError(
                f"{self.model} is an architecture without weights and tokenizer: it takes weights: random and "
                "data: random_tokens; for the real model give its directory or hub id"
            )
        if self.data == "random_tokens" and self.generate_examples:
            raise UserError("random_tokens has no problems to answer: set generate_examples to 0")
        if self.blocks is not None:
            _check_integer("blocks", self.blocks, 1)
        if BACKENDS[self.backend].kind == "trainer" and (self.recompute or self.blocks):
            raise UserError(f"backend {self.backend!r} trains by itself: it knows neither recompute nor blocks")
