"""Types of fields that several specs have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WrapValidator

MIN_BITS, MAX_BITS = 2, 16

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
# A whole number stays one, so that the canonical JSON, and with it the digest, is that of what was given.
Number = Annotated[float, WrapValidator(lambda value, check: (check(value), value)[1])]
Bits = Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)]
ConstantRows = Literal["exact", "reference"]
Weights = Literal["pretrained", "random"]
