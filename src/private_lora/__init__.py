"""Private LoRA fine-tuning: a data owner trains an adapter while remote workers multiply encrypted activations."""

__version__ = "0.1.0"
