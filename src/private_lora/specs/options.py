"""Options of backends, one model for each kind: field for field what the backend's class takes, `device` aside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from private_lora.specs.fields import FailureLog2, NotNegative, Quantity

HINTS_VARIABLE = "PRIVATE_LORA_HINTS"
"""Environment variable: directory where `packed` keeps hints, and the seed of their masks, for the next run."""


class NoOptions(BaseModel):
    """None at all; base of the others, which refuse what they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class FloatOptions(NoOptions):
    """Of the plain product."""

    dtype: Literal["float32", "bfloat16", "int8", "int4"] = "float32"
    """of weights and products; rows and answers are float32. int8, int4: of weights alone, in groups of 64 with a scale"""
    library: Literal["torch", "onednn"] = "torch"
    """of the float32 product: torch.matmul, or oneDNN's, twice as fast where torch calls MKL on processors of AMD's"""


class PackedOptions(NoOptions):
    """Of token-packed RLWE."""

    failure_log2: FailureLog2 = -80
    """log2 of the largest allowed probability that a value decrypts wrongly; of 2^40 values any is wrong with 2^-40 at -80"""
    security: Literal["matzov", "adps16", "chaloy21_quantum"] = "matzov"
    """cost model of an attack that leaves 128 bits to the chosen parameters"""
    mask: Literal["session", "fresh"] = "session"
    """one mask for many questions, whose product with the weight the client computes once, or a mask for each question"""


class PackedApproxOptions(PackedOptions):
    """Of token-packed RLWE with a small modulus."""

    log2_q: Annotated[int, Field(ge=8, le=62)] = 26
    """of the modulus; one more bit halves the error"""


class PackedSimulatedOptions(PackedApproxOptions):
    """Of the simulation of `packed_approx`."""

    seed: NotNegative = 0
    """of the noise, which protects nothing; a run gives its own"""


class GlweSimulatedOptions(NoOptions):
    """Of the simulation of `glwe`."""

    noise_std: Quantity = 19.05
    """in units of the integer product"""
    overflow: Literal["refuse", "wrap", "wrap_unsigned"] = "refuse"
    """of sums that could need more bits than the scheme keeps: refuse the layer; or wrap, let them wrap around in silence as
    the extension does, and count those that did; or wrap_unsigned, the same of the reference's sums, of unsigned activations"""
    seed: NotNegative = 0
    """of the noise, which protects nothing; a run gives its own"""


class ConcreteMLOptions(NoOptions):
    """Of Concrete ML's own trainer."""

    mode: Literal["disable", "execute"] = "execute"
    """disable: in the clear; execute: encrypted"""
