"""Numbers that describe a training run, from losses and generated texts."""

import math
from collections.abc import Sequence

import numpy as np

from private_lora.core.errors import UserError
from private_lora.data.examples import Example, final_answer


def running_mean(losses: Sequence[float]) -> list[float]:
    """The mean of all losses up to and including each step: what the published convergence curves plot."""
    return (np.cumsum(losses, dtype=np.float64) / np.arange(1, len(losses) + 1)).tolist()


def perplexity(loss: float) -> float:
    """exp(loss), for a mean cross entropy in nats per token; infinite where that exceeds a double."""
    return math.exp(loss) if not loss > 709 else math.inf


def exact_match(predicted_texts: Sequence[str], examples: Sequence[Example]) -> float:
    """The fraction (0 to 1) of examples whose predicted text has the right final answer behind `####`.

    Examples without an answer are not counted. UserError if none has one.
    """
    if len(predicted_texts) != len(examples):
        raise ValueError(f"{len(predicted_texts)} predicted texts for {len(examples)} examples")
    pairs = [
        (text, example.answer) for text, example in zip(predicted_texts, examples, strict=True) if example.answer is not None
    ]
    if not pairs:
        raise UserError("No example has an answer to compare with: set generate_examples to 0 for this data.")
    return sum(final_answer(text) == answer for text, answer in pairs) / len(pairs)
