"""Quantizers, each said once: where its ranges are computed, and its pairs as tables and figures show them."""

from __future__ import annotations

from private_lora.specs.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE
from private_lora.specs.descriptors import PairDescriptor, QuantizerDescriptor, by_name

_RANGES = "private_lora.split.quantizers"

ACTIVATION_QUANTIZERS = by_name(
    (
        QuantizerDescriptor("dynamic_per_token", f"{_RANGES}:range_of_each_row"),
        QuantizerDescriptor("dynamic_per_tensor", f"{_RANGES}:range_of_all_rows"),
        QuantizerDescriptor("static_per_tensor", f"{_RANGES}:range_from_calibration", calibrated=True),
        QuantizerDescriptor("symmetric_per_token", f"{_RANGES}:range_of_each_row", symmetric=True),
    ),
    "private_lora.activation_quantizers",
)
# A weight's rows are its outputs.
WEIGHT_QUANTIZERS = by_name(
    (
        QuantizerDescriptor("static_per_channel", f"{_RANGES}:range_of_each_row"),
        QuantizerDescriptor("static_per_tensor", f"{_RANGES}:range_of_all_rows"),
        QuantizerDescriptor("symmetric_per_channel", f"{_RANGES}:range_of_each_row", symmetric=True),
    ),
    "private_lora.weight_quantizers",
)
DEFAULT_PAIR = "DTok-SC"
# In the order in which tables and figures list them; `symmetric_per_tensor` is Concrete ML's own.
PAIRS = {
    descriptor.short: descriptor
    for descriptor in (
        PairDescriptor("dynamic_per_token", "static_per_channel", DEFAULT_PAIR, BLUE, "o"),
        PairDescriptor("dynamic_per_tensor", "static_per_tensor", "DTen-ST", ORANGE, "s"),
        PairDescriptor("static_per_tensor", "static_per_tensor", "ST-ST", GREEN, "^"),
        PairDescriptor("symmetric_per_token", "symmetric_per_channel", "Sym", PURPLE, "D"),
        PairDescriptor("static_per_tensor", "symmetric_per_tensor", "ST-SymT"),
    )
}
NO_PAIR = PairDescriptor("", "", "float", BLACK)
