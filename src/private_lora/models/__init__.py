"""Base models: found, loaded whole or streamed one weight at a time, and their shapes.

Must not know of backends, quantization or training.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    load="load_base model_hash",
    stream="Frame load_frame open_weights remote_layers",
    shapes="Architecture architecture_of",
    outliers="plant_outliers",
)
