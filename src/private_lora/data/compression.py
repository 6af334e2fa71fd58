"""Bits per byte: the measure of text without questions, which does not depend on a tokenizer's cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from private_lora.data.encoding import IGNORED

if TYPE_CHECKING:
    from private_lora.data.encoding import Encoded


def bits_per_byte(loss: float, tokens: int, size: int) -> float:
    """The bits that a model needs for a byte of text: from its mean loss (nats) over the tokens that make `size` bytes."""
    return loss * tokens / (math.log(2) * size)


def predicted_text(encoded: Encoded, tokenizer) -> tuple[int, int]:
    """Tokens that a model predicts in rows of `encode`, padding aside, and bytes (UTF-8) of the text that they make.

    What was cut off a row is in neither, nor is a row's first token, which nothing stands before. An end token is predicted and
    makes no text, so it costs bits and saves none.
    """
    tokens = size = 0
    for ids, mask, labels in zip(encoded["input_ids"], encoded["attention_mask"], encoded["labels"], strict=True):
        predicted = ids[1:][(labels[1:] != IGNORED) & (mask[1:] == 1)]
        tokens += len(predicted)
        # A character that was cut in two comes back as a mark of replacement: no text.
        text = tokenizer.decode(predicted, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        size += len(text.rstrip("\N{REPLACEMENT CHARACTER}").encode())
    return tokens, size
