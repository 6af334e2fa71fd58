"""Quantizers, each said once: where its ranges are computed, and its pairs as tables and figures show them."""

from __future__ import annotations

from private_lora.specs.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE
from private_lora.specs.descriptors import ActivationQuantizer, PairDescriptor, WeightQuantizer, by_name

_RANGES = "private_lora.split.quantizers"
_GROUP = "private_lora.quantizers"

ACTIVATION_QUANTIZERS = by_name(
    (
        ActivationQuantizer("dynamic_per_token", f"{_RANGES}:range_of_each_row"),
        ActivationQuantizer("dynamic_per_tensor", f"{_RANGES}:range_of_all_rows"),
        ActivationQuantizer("static_per_tensor", f"{_RANGES}:range_from_calibration", calibrated=True),
        ActivationQuantizer("symmetric_per_token", f"{_RANGES}:range_of_each_row", symmetric=True),
    ),
    _GROUP,
    ActivationQuantizer,
)
WEIGHT_QUANTIZERS = by_name(
    (
        WeightQuantizer("static_per_channel", f"{_RANGES}:range_of_each_row"),
        WeightQuantizer("static_per_tensor", f"{_RANGES}:range_of_all_rows"),
        WeightQuantizer("symmetric_per_channel", f"{_RANGES}:range_of_each_row", symmetric=True),
        WeightQuantizer("symmetric_per_tensor", f"{_RANGES}:range_of_all_rows", symmetric=True),
    ),
    _GROUP,
    WeightQuantizer,
)
DEFAULT_PAIR = "DTok-SC"
# In the order in which tables and figures list them; the last is what Concrete ML takes where it quantizes statically.
PAIRS = by_name(
    (
        PairDescriptor(DEFAULT_PAIR, "dynamic_per_token", "static_per_channel", BLUE, "o"),
        PairDescriptor("DTen-ST", "dynamic_per_tensor", "static_per_tensor", ORANGE, "s"),
        PairDescriptor("ST-ST", "static_per_tensor", "static_per_tensor", GREEN, "^"),
        PairDescriptor("Sym", "symmetric_per_token", "symmetric_per_channel", PURPLE, "D"),
        PairDescriptor("ST-SymT", "static_per_tensor", "symmetric_per_tensor"),
    ),
    _GROUP,
    PairDescriptor,
)
NO_PAIR = PairDescriptor("float", "", "", BLACK)
