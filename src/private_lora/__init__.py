"""Private LoRA fine-tuning: a data owner trains an adapter while remote workers multiply encrypted activations.

For a script of your own, where it is best imported before torch: `make_private`, which takes a peft model that transformers'
Trainer is to train.
"""

from private_lora.core.exports import front_door
from private_lora.core.openmp import let_idle_threads_sleep

__version__ = "0.1.0"

let_idle_threads_sleep()

__getattr__, __dir__, __all__ = front_door(__name__, api="PrivateSession make_private")
