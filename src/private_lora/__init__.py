"""Private LoRA fine-tuning: a data owner trains an adapter while remote workers multiply encrypted activations.

For a script of your own: `make_private`, which takes a peft model that transformers' Trainer is to train.
"""

import os

from private_lora.core.exports import front_door

__version__ = "0.1.0"

# OpenMP reads it when torch is loaded. Idle threads sleep: spinning, they hold the cores that the other threads need next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__getattr__, __dir__, __all__ = front_door(__name__, api="PrivateSession make_private")
