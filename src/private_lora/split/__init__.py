"""The split linear layer: quantizers, weights, products and the session that they share, wherever products are computed.

Must not know of training loops or networks: a `Place` stands for whoever computes products.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    linear="split_model calibrate",
    session="Session",
    place="InProcess Place",
    stopwatch="TimedProduct timed_product",
    quantizers="Quantized dequantize_product quantize_activations quantize_weight",
    weights="ProductWeight backward_weight forward_weight",
    recompute="recompute_activations",
)
