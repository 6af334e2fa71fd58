"""Private LoRA fine-tuning: a data owner trains an adapter while remote workers multiply encrypted activations."""

import os

__version__ = "0.1.0"

# OpenMP reads it when torch is loaded. Idle threads sleep: spinning, they hold the cores that the other threads need next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
