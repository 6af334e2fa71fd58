"""What all specs share: JSON in and out, a digest, and refusals in one sentence."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.backends import BACKENDS
from private_lora.specs.fields import MAX_BITS, MIN_BITS
from private_lora.specs.sentences import check_keys, sentence


class Model(BaseModel):
    """Plain data, checked when it is made: unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values):
        return check_keys(values, cls.model_fields)


class Spec(Model):
    """Everything that can change a number, JSON in and out. Raises UserError, in one sentence, on what could not be run."""

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(sentence(error)) from None

    # As pydantic marks its own: inside another model, a spec is validated there, so that a complaint has its whole path.
    __init__.__pydantic_base_init__ = True

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """The spec; raises UserError on an unknown or missing key or a value that could not be run."""
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
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
        return self.model_dump()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def options_by_backend(schema: dict) -> None:
    """Add to a JSON Schema what each backend takes as `backend_options`."""
    schema["allOf"] = [
        {
            "if": {"properties": {"backend": {"const": backend.name}}},
            "then": {"properties": {"backend_options": backend.options.model_json_schema()}},
        }
        for backend in BACKENDS.values()
    ]


def check_backend(name: str, device: str, options: dict) -> None:
    """Nothing; raises UserError on a device that a (known) backend does not have, or options that it does not take."""
    backend = BACKENDS[name]
    check_name(f"device for backend {name}", device, backend.devices)
    for option in options:
        check_name(f"option of backend {name}", option, backend.options.model_fields or ("none",))
    try:
        backend.options(**options)
    except ValidationError as error:
        raise UserError(f"options of backend {name}: {sentence(error)}") from None


def check_bits(backend: str, activation_bits: int | None, weight_bits: int | None) -> None:
    """Nothing; raises UserError unless the bits are those that a backend with or without quantization takes."""
    given = {"activation_bits": activation_bits, "weight_bits": weight_bits}
    if not BACKENDS[backend].quantized and set(given.values()) != {None}:
        raise UserError(f"backend {backend!r} does not quantize: leave out activation_bits and weight_bits")
    missing = [name for name, bits in given.items() if bits is None]
    if BACKENDS[backend].quantized and missing:
        raise UserError(f"{missing[0]} must be a whole number from {MIN_BITS} to {MAX_BITS}, not None")
    if BACKENDS[backend].one_bit_width and activation_bits != weight_bits:
        raise UserError(
            f"backend {backend!r} has one bit-width for activations and weights: activation_bits {activation_bits} and "
            f"weight_bits {weight_bits} must be equal"
        )


def check_range(backend: str, activation_bits: int | None, weight_bits: int | None, options: dict) -> None:
    """Nothing; raises UserError when a single product of the largest quantized values is more than a backend keeps of a sum.

    Unless its options ask for what happens then.
    """
    kept = BACKENDS[backend].result_bits
    refuses = kept and options.get("overflow", "refuse") == "refuse"
    if refuses and (2 ** (weight_bits - 1) - 1) * 2 ** (activation_bits - 1) >= 2 ** (kept - 1):
        raise UserError(
            f"{backend} keeps {kept} bits of a result, and activations of {activation_bits} bits times weights of "
            f"{weight_bits} need more: use fewer bits"
        )
