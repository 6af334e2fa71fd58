"""What can change a number, as plain data: one spec per run, written into its sidecar and hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from private_lora.errors import UserError
from private_lora.registry import (
    ACTIVATION_QUANTIZERS,
    BACKENDS,
    DATASETS,
    MAX_BITS,
    MIN_BITS,
    WEIGHT_QUANTIZERS,
    check_name,
)


class _Spec:
    """JSON in and out, unknown keys refused."""

    @classmethod
    def from_dict(cls, values: dict):
        """The spec; raises UserError on an unknown or missing key or a value of the wrong type."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise UserError(f"unknown key {unknown[0]!r} in the run's spec: known are {', '.join(fields)}")
        required = [n for n, f in fields.items() if _is_required(f) and n not in values]
        if required:
            raise UserError(f"key {required[0]!r} is missing in the run's spec")
        spec = cls(**values)
        spec.check()
        return spec

    @classmethod
    def from_json(cls, text: str):
        """The spec in a JSON object; raises UserError when the text is not one."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"the spec is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError("the spec must be a JSON object")
        return cls.from_dict(values)

    def to_dict(self) -> dict:
        """All fields, defaults included."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _check_integer(name: str, value, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UserError(f"{name} must be a whole number of at least {low}, not {value!r}")


def _check_number(name: str, value, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < float("inf"):
        raise UserError(f"{name} must be a number of at least {low}, not {value!r}")


def _check_boolean(name: str, value) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false, not {value!r}")


def check_bits(name: str, value) -> None:
    """Nothing if `value` is a bit-width that the quantizers support; raises UserError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not MIN_BITS <= value <= MAX_BITS:
        raise UserError(f"{name} must be a whole number from {MIN_BITS} to {MAX_BITS}, not {value!r}")


@dataclass(frozen=True)
class RunSpec(_Spec):
    """One fine-tuning run. `weight_bits` and `activation_bits` hold forward and backward alike.

    share_inputs: q, k, v are one remote call, and gate, up another; a backend of kind `trainer` has layers of its own.
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
        for name in ("share_inputs", "count_padding"):
            _check_boolean(name, getattr(self, name))


@dataclass(frozen=True)
class LatencySpec(_Spec):
    """One latency measurement: an encrypted linear layer of `inputs` x `outputs` on `rows` rows, stage by stage."""

    run_id: str
    backend: str
    rows: int
    inputs: int
    outputs: int
    stage: str = "latency"
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
