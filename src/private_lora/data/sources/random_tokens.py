"""Rows of random token ids, every one of them a label: for measurements of cost, with no text to learn from."""

import numpy as np

from private_lora.core.errors import UserError
from private_lora.data.encoding import Encoded
from private_lora.data.examples import check_options


def validate(options: dict) -> None:
    """Nothing, or UserError for any option."""
    check_options("random_tokens", options)


def examples(options: dict, split: str, seed: int):
    """UserError: random tokens are no texts."""
    raise UserError("Data random_tokens has no texts: it gives rows of token ids only.")


def random_tokens(vocabulary: int, rows: int, length: int, seed: int) -> Encoded:
    """The arrays of `encoding.encode`, rows x length, with ids uniform in the vocabulary and nothing masked."""
    ids = np.random.default_rng(seed).integers(vocabulary, size=(rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids.copy()}
