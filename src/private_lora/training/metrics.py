"""Numbers that describe a training run, from losses and generated texts."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from private_lora.data.examples import Example, final_answer, normal_answer


def running_mean(losses: Sequence[float]) -> list[float]:
    """The mean of all losses up to and including each step: what the published convergence curves plot."""
    return (np.cumsum(losses, dtype=np.float64) / np.arange(1, len(losses) + 1)).tolist()


def perplexity(loss: float) -> float:
    """exp(loss), for a mean cross entropy in nats per token; infinite where that exceeds a double."""
    return math.exp(loss) if not loss > 709 else math.inf


def right_texts(texts: Sequence[str], examples: Sequence[Example]) -> list[bool | None]:
    """Whether each text has the right final answer behind `####`; None for an example without an answer.

    Where no example has one, a text as a whole is compared with the completion. Answers are spelled by `normal_answer`.
    """
    if len(texts) != len(examples):
        raise ValueError(f"{len(texts)} texts for {len(examples)} examples")
    pairs = list(zip(texts, examples, strict=True))
    if all(example.answer is None for example in examples):
        return [normal_answer(text) == normal_answer(example.completion) for text, example in pairs]
    return [None if example.answer is None else final_answer(text) == example.answer for text, example in pairs]


def exact_matches(examples: Sequence[Example], answered: np.ndarray) -> list[tuple[str, float, str]]:
    """Rows (name, value, unit) with the share of examples that were answered to the last token, and how many were asked.

    examples: those of the rows of `answered` (N, bool); questions of a kind of their own are counted apart, under a name that
    says the kind. No rows where answers are marked in longer completions, or nothing was asked.
    """
    rows = []
    for kind in dict.fromkeys(example.kind for example in examples):
        asked = [
            right
            for example, right in zip(examples, answered, strict=True)
            if example.kind == kind and example.prompt and example.answer is None
        ]
        if asked:
            name = f"exact_match_{kind}" if kind else "exact_match"
            rows += [(name, sum(asked) / len(asked), "fraction"), (f"{name}_questions", len(asked), "")]
    return [(name, float(value), unit) for name, value, unit in rows]


def guessed(train: Sequence[Example], held_out: Sequence[Example]) -> float | None:
    """Exact match of somebody who knows the form of answers and no facts: always the likeliest answer of training on a topic.

    Of the held-out examples of no special kind; None if there are none that are compared as a whole.
    """
    answers = defaultdict(Counter)
    for example in train:
        answers[example.topic][example.completion] += 1
    asked = [example for example in held_out if example.prompt and example.answer is None and not example.kind]
    likeliest = {topic: counts.most_common(1)[0][0] for topic, counts in answers.items()}
    return sum(example.completion == likeliest.get(example.topic) for example in asked) / len(asked) if asked else None
