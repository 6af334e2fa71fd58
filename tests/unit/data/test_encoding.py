"""Rows of tokens, masks and labels, on a tokenizer of a few hundred entries that is trained here."""

import numpy as np
import pytest

from private_lora.core.errors import UserError
from private_lora.data.encoding import encode, encoding_report, prompt_ids, text_lengths
from private_lora.data.examples import Example
from private_lora.data.load import load_examples

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def make_tokenizer(**special):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    texts = [e.prompt + e.completion for e in load_examples("math_problems", {}, "train", 300, 0)]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(**SPECIAL)


@pytest.fixture
def problems():
    return load_examples("math_problems", {}, "train", 8, 0)


def test_rows_hold_begin_prompt_completion_end_padding(tokenizer, problems):
    encoded = encode(problems, tokenizer, 128)
    starts = prompt_ids(problems, tokenizer)
    for row, example in enumerate(problems):
        ids, mask, labels = (encoded[key][row] for key in ("input_ids", "attention_mask", "labels"))
        length = mask.sum()
        assert ids[0] == tokenizer.bos_token_id and ids[length - 1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[1 : length - 1]) == example.prompt + example.completion
        assert ids[: len(starts[row])].tolist() == starts[row]
        assert mask[:length].all() and (ids[length:] == tokenizer.pad_token_id).all()
        assert tokenizer.decode(labels[labels != -100]) == example.completion + "</s>"
        assert (labels == np.where(labels == -100, -100, ids)).all()


def test_arrays_are_int64_of_one_shape(tokenizer, problems):
    encoded = encode(problems, tokenizer, 64)
    assert list(encoded) == ["input_ids", "attention_mask", "labels"]
    assert all(values.shape == (8, 64) and values.dtype == np.int64 for values in encoded.values())
    assert encode([], tokenizer, 64)["labels"].shape == (0, 64)


def test_padding_counts_only_when_asked(tokenizer, problems):
    plain, counted = (encode(problems, tokenizer, 128, count_padding=flag) for flag in (False, True))
    padding = plain["attention_mask"] == 0
    assert padding.any()
    assert (plain["labels"][padding] == -100).all()
    assert (counted["labels"][padding] == tokenizer.pad_token_id).all()
    assert (counted["labels"][~padding] == plain["labels"][~padding]).all()
    assert (counted["attention_mask"] == plain["attention_mask"]).all()


def test_a_long_example_is_cut_and_counted(tokenizer):
    long, short = Example("Why?\n", "abc " * 50), Example("Why?\n", "So.")
    encoded = encode([long, short], tokenizer, 16)
    assert encoded["attention_mask"][0].all() and encoded["input_ids"][0, -1] != tokenizer.eos_token_id
    assert encoding_report([long, short], tokenizer, 16) == {"examples": 2, "truncated": 1, "left_out": 0}


def test_the_exact_length_is_not_cut(tokenizer):
    example = Example("Why?\n", "So it is.")
    length = int(encode([example], tokenizer, 64)["attention_mask"].sum())
    assert encode([example], tokenizer, length)["input_ids"][0, -1] == tokenizer.eos_token_id
    assert encoding_report([example], tokenizer, length)["truncated"] == 0
    assert encoding_report([example], tokenizer, length - 1)["truncated"] == 1


def test_an_example_without_room_for_its_answer_gets_no_row(tokenizer):
    examples = [Example("abc " * 50, "So."), Example("Why?\n", "So.")]
    encoded = encode(examples, tokenizer, 16)
    assert len(encoded["input_ids"]) == 1 and (encoded["labels"] != -100).any(axis=1).all()
    assert encoding_report(examples, tokenizer, 16) == {"examples": 2, "truncated": 1, "left_out": 1}
    with pytest.raises(UserError, match="raise sequence_length"):
        encode(examples[:1], tokenizer, 16)


@pytest.mark.parametrize(
    ("special", "begin", "end", "pad"),
    [
        ({"bos_token": "<s>", "eos_token": "</s>"}, "<s>", "</s>", "</s>"),  # Llama 3
        ({"bos_token": "<s>", "eos_token": "<s>"}, "<s>", "<s>", "<s>"),  # GPT-2
        ({"eos_token": "</s>", "pad_token": "</s>"}, None, "</s>", "</s>"),
        ({"bos_token": "<s>"}, "<s>", None, "<s>"),
        ({}, None, None, "<pad>"),
    ],
)
def test_missing_special_tokens(special, begin, end, pad, problems):
    tokenizer = make_tokenizer(**special)
    encoded = encode(problems, tokenizer, 128)
    for row, example in enumerate(problems):
        length = int(encoded["attention_mask"][row].sum())
        text = (begin or "") + example.prompt + example.completion + (end or "")
        assert tokenizer.decode(encoded["input_ids"][row, :length]) == text
        assert (encoded["input_ids"][row, length:] == tokenizer.convert_tokens_to_ids(pad)).all()
        learned = encoded["labels"][row, :length]
        assert tokenizer.decode(learned[learned != -100]) == example.completion + (end or "")
        assert (encoded["labels"][row, length:] == -100).all()


def test_text_without_a_prompt_is_learned_from_its_first_token(tokenizer):
    encoded = encode([Example("", "for x in y:\n    pass\n")], tokenizer, 64)
    learned = encoded["labels"][0] != -100
    assert not learned[0] and learned[1] and learned.sum() == encoded["attention_mask"].sum() - 1


def published_labels(tokenizer, question, answer, length):
    """Labels of Concrete ML's `process_example`: masked are as many as the question has tokens, and one, the begin token."""
    ids = [tokenizer.bos_token_id, *tokenizer(question + "\n" + answer, add_special_tokens=False)["input_ids"]]
    masked = len(tokenizer(question, add_special_tokens=False)["input_ids"]) + 1
    return [-100 if i < masked else token for i, token in enumerate(ids)][:length]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("question", ["How many apples are left?", "Add the two numbers"])
def test_the_newline_counts_where_it_is_a_token_of_its_own(tokenizer, question, joined):
    if joined:
        tokenizer = make_tokenizer(**SPECIAL)
        tokenizer.add_tokens(["?\n"])  # as the tokenizer of Llama 3 has it
    example = Example(question + "\n", "5 of them")
    encoded = encode([example], tokenizer, 64, count_newline=True)
    plain = encode([example], tokenizer, 64)
    expected = published_labels(tokenizer, question, "5 of them", 64)
    assert encoded["labels"][0, : len(expected)].tolist() == expected
    newline = int((encoded["labels"] != -100).sum() - (plain["labels"] != -100).sum())
    assert newline == (not (joined and question.endswith("?")))
    assert (encoded["input_ids"] == plain["input_ids"]).all()


def test_text_lengths_are_those_of_the_published_filter(tokenizer, problems):
    for example, length in zip(problems, text_lengths(problems, tokenizer), strict=True):
        question = tokenizer(example.prompt.removesuffix("\n"), add_special_tokens=False)["input_ids"]
        answer = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        assert length == len(question) + len(answer) + 1
    assert text_lengths([Example("", "abc")], tokenizer) == [len(tokenizer("abc", add_special_tokens=False)["input_ids"])]
