"""Bits per byte: the formula, and which tokens and bytes it is of."""

import math

import pytest

from private_lora.core.paths import RESOURCES
from private_lora.data.compression import bits_per_byte, predicted_text
from private_lora.data.encoding import encode
from private_lora.data.examples import Example

TEXTS = ["def f(x):\n    return x + 1\n", "name = 'Z\u00fcrich'\n"]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(RESOURCES / "mini-llama")


def rows(tokenizer, length, **options):
    return encode([Example("", text) for text in TEXTS], tokenizer, length, **options)


def test_a_bit_for_each_byte():
    assert bits_per_byte(math.log(2), tokens=8, size=8) == pytest.approx(1)
    assert bits_per_byte(2 * math.log(2), tokens=3, size=12) == pytest.approx(0.5)


def test_whole_rows_count_all_bytes_and_the_end_token(tokenizer):
    lengths = [len(ids) for ids in tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    expected = sum(lengths) + len(TEXTS), sum(len(text.encode()) for text in TEXTS)
    assert predicted_text(rows(tokenizer, 96), tokenizer) == expected
    assert predicted_text(rows(tokenizer, 96, count_padding=True), tokenizer) == expected


def test_a_row_that_was_cut_counts_what_it_keeps(tokenizer):
    first = [ids[:4] for ids in tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    kept = sum(len(tokenizer.decode(ids).encode()) for ids in first)
    assert predicted_text(rows(tokenizer, 5), tokenizer) == (8, kept)


def test_half_a_character_is_no_text(tokenizer):
    encoded = encode([Example("", "\u4e2d" * 3)], tokenizer, 96)
    whole = predicted_text(encoded, tokenizer)
    length = int(encoded["attention_mask"].sum()) - 2
    cut = predicted_text(encode([Example("", "\u4e2d" * 3)], tokenizer, length), tokenizer)
    assert whole[1] == 9 and cut[0] < whole[0] and cut[1] in (3, 6)


def test_without_a_begin_token_the_first_is_not_predicted(tokenizer):
    encoded = {key: values[:, 1:] for key, values in rows(tokenizer, 96).items()}
    with_begin, without = predicted_text(rows(tokenizer, 96), tokenizer), predicted_text(encoded, tokenizer)
    assert without[0] == with_begin[0] - len(TEXTS) and without[1] < with_begin[1]
