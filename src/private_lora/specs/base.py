"""What all specs share: JSON in and out, a digest, and checks in one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from private_lora.core.errors import UserError
from private_lora.specs.registry import MAX_BITS, MIN_BITS


class Spec:
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


def _check_keys(name: str, mapping, keys: tuple[str, ...]) -> None:
    if not isinstance(mapping, dict) or set(mapping) != set(keys):
        raise UserError(f"{name} must have the keys {', '.join(keys)}, and no others")


def check_bits(name: str, value) -> None:
    """Nothing if `value` is a bit-width that the quantizers support; raises UserError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not MIN_BITS <= value <= MAX_BITS:
        raise UserError(f"{name} must be a whole number from {MIN_BITS} to {MAX_BITS}, not {value!r}")
