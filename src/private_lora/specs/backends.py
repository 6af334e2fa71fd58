"""Backends, each said once: where its code is, what it promises, how tables and figures show it. Imports nothing heavy.

A package of somebody else adds one by an entry point of the group `private_lora.backends` that names a `BackendDescriptor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points

from pydantic import BaseModel

from private_lora.specs.colours import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from private_lora.specs.fields import MAX_BITS
from private_lora.specs.options import (
    ConcreteMLOptions,
    GlweSimulatedOptions,
    NoOptions,
    PackedApproxOptions,
    PackedOptions,
    PackedSimulatedOptions,
)

GROUP = "private_lora.backends"


@dataclass(frozen=True)
class BackendDescriptor:
    """What may be said about a backend without importing it.

    path: `module:class`. kind: `matmul` follows `backends.contract`; a `trainer` runs a whole training loop of its own.
    quantized: False only for float32, which has no bit-width. encrypted: a run of it must count encrypted products or fails.
    basis: `measured` or `simulated`, printed in every table. label, colour: in figures. options: model of what its class takes.
    one_bit_width: activations and weights have the same. result_bits: that it keeps of a product's sums, if not all.
    """

    name: str
    path: str
    label: str
    colour: str
    kind: str = "matmul"
    quantized: bool = True
    encrypted: bool = False
    basis: str = "measured"
    devices: tuple[str, ...] = ("cpu",)
    options: type[BaseModel] = NoOptions
    one_bit_width: bool = False
    result_bits: int | None = None

    @property
    def remote(self) -> bool:
        """Whether workers can serve it: a simulated one draws its noise by the client's steps."""
        return self.kind == "matmul" and self.basis != "simulated"


@dataclass(frozen=True)
class PlaintextDescriptor:
    """A product in the clear that the stage `block` times beside backends: torch alone, without the protocol around it.

    bits: of the widest signed integers that it holds exactly, if these are fewer than the quantizers make.
    """

    name: str
    label: str
    colour: str
    bits: int = MAX_BITS


BUILT_IN = (
    BackendDescriptor("float", "private_lora.backends.clear.float:FloatBackend", "float32", BLACK, quantized=False),
    BackendDescriptor("integer", "private_lora.backends.clear.integer:IntegerBackend", "integer", BLUE),
    BackendDescriptor(
        "packed",
        "private_lora.backends.packed.exact:PackedBackend",
        "packed",
        GREEN,
        encrypted=True,
        devices=("cpu", "cuda"),
        options=PackedOptions,
    ),
    BackendDescriptor(
        "packed_approx",
        "private_lora.backends.packed.approx:PackedApproxBackend",
        "packed_approx",
        ORANGE,
        encrypted=True,
        devices=("cpu", "cuda"),
        options=PackedApproxOptions,
    ),
    BackendDescriptor(
        "packed_simulated",
        "private_lora.backends.packed.approx:PackedSimulatedBackend",
        "packed_simulated",
        GREY,
        basis="simulated",
        options=PackedSimulatedOptions,
    ),
    BackendDescriptor(
        "glwe_simulated",
        "private_lora.backends.glwe.simulated:GlweSimulatedBackend",
        "glwe_simulated",
        SKY,
        basis="simulated",
        options=GlweSimulatedOptions,
        result_bits=27,
    ),
    BackendDescriptor(
        "glwe",
        "private_lora.backends.glwe.backend:GlweBackend",
        "glwe",
        VERMILLION,
        encrypted=True,
        devices=("cpu", "cuda"),
        result_bits=27,
    ),
    BackendDescriptor(
        "concrete_ml",
        "private_lora.training.concrete_ml.trainer:ConcreteMLBackend",
        "concrete_ml",
        PURPLE,
        kind="trainer",
        one_bit_width=True,
        options=ConcreteMLOptions,
    ),
)
# By name, in the order in which tables and figures list them.
BACKENDS = {descriptor.name: descriptor for descriptor in (*BUILT_IN, *(e.load() for e in entry_points(group=GROUP)))}

PLAINTEXT = {
    descriptor.name: descriptor
    for descriptor in (
        PlaintextDescriptor("plaintext_float32", "plaintext float32", BLACK),
        PlaintextDescriptor("plaintext_float64", "plaintext float64", GREY),
        PlaintextDescriptor("plaintext_bf16", "plaintext bf16 (inexact)", PURPLE, bits=9),
        PlaintextDescriptor("plaintext_int8", "plaintext int8", BLUE, bits=8),
    )
}


def remote_backends() -> tuple[str, ...]:
    """Names of those that workers can serve."""
    return tuple(name for name, descriptor in BACKENDS.items() if descriptor.remote)
