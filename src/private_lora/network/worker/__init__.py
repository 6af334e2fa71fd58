"""The worker's side: holds quantized weights and multiplies what clients send."""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    held="Held hold",
    limits="Limits",
    server="start",
)
