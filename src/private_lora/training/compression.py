"""Bits per byte of a run's held-out text."""

from __future__ import annotations

from private_lora.data.compression import bits_per_byte, predicted_text
from private_lora.specs.data import DATASETS
from private_lora.training.preparation import Run


def bits_per_byte_rows(run: Run, losses: dict[str, float]) -> list[tuple[str, float, str]]:
    """Name, value and unit of the row beside the losses of held-out text without questions; none for other data.

    losses: of `evaluate_losses`. Padding is no text, so it does not count.
    """
    if DATASETS[run.spec.data].has_answers or not run.eval_examples:
        return []
    tokens, size = predicted_text(run.eval_encoded, run.tokenizer)
    loss = losses.get("loss_without_padding", losses["loss"])
    return [("bits_per_byte", bits_per_byte(loss, tokens, size), "bits")] if size else []
