"""Types of fields that several specs have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WrapValidator

MIN_BITS, MAX_BITS = 2, 16

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Bits = Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)]
ConstantRows = Literal["exact", "reference"]
Weights = Literal["pretrained", "random"]
Targets = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


def _number(**limits: float):
    """A finite number within limits. A whole one stays one: the canonical JSON, and so the digest, is of what was given."""
    return Annotated[float, Field(**limits), WrapValidator(lambda value, check: (check(value), value)[1])]


Quantity = _number(ge=0)
Share = _number(ge=0, le=1)
Bandwidth = _number(ge=1)
FailureLog2 = _number(ge=-256, le=-64)
