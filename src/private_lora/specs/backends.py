"""Backends, each said once: where its code is, what it promises, how tables and figures show it. Imports nothing heavy."""

from __future__ import annotations

from private_lora.specs.colours import BLACK, BLUE, GREEN, GREY, INDIGO, ORANGE, PURPLE, SAND, SKY, VERMILLION, WINE
from private_lora.specs.descriptors import BackendDescriptor, PlaintextDescriptor, by_name
from private_lora.specs.options import (
    ConcreteMLOptions,
    FloatOptions,
    GlweSimulatedOptions,
    PackedApproxOptions,
    PackedOptions,
    PackedSimulatedOptions,
)

BUILT_IN = (
    BackendDescriptor(
        "float", "private_lora.backends.clear.float:FloatBackend", "float", BLACK, quantized=False, options=FloatOptions
    ),
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
BACKENDS = by_name(BUILT_IN, "private_lora.backends", BackendDescriptor)

# float32 and the exact integers are the same arithmetic as the backends `float` and `integer`, and have their colours.
PLAINTEXT = {
    descriptor.name: descriptor
    for descriptor in (
        PlaintextDescriptor("plaintext_float32", "plaintext float32", BLACK),
        PlaintextDescriptor("plaintext_float32_onednn", "plaintext float32, oneDNN", INDIGO),
        PlaintextDescriptor("plaintext_float64", "plaintext float64", SAND),
        PlaintextDescriptor("plaintext_bf16", "plaintext bf16 (inexact)", WINE, bits=9),
        PlaintextDescriptor("plaintext_int8", "plaintext int8", BLUE, bits=8),
    )
}


def remote_backends() -> tuple[str, ...]:
    """Names of those that workers can serve."""
    return tuple(name for name, descriptor in BACKENDS.items() if descriptor.remote)
