"""The cost model: seconds, bytes and money of a training step, predicted from measured parts.

Reads rows, measures nothing.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    predict="costs write_costs",
    model="products_of",
)
