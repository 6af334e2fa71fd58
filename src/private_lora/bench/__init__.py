"""Measurements: one layer, all layers of a block, a run over loopback; what a worker sees; ceilings of the machine.

Must not know what is published of them.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    ceilings="copy_ceiling int8_ceiling",
    plaintext="PlaintextProduct",
)
