"""Examples from JSONL files: one or two of them, and every way in which a line can be wrong."""

import pytest
from jsonl_files import qa, write_jsonl

from private_lora.core.errors import UserError
from private_lora.data.examples import Example
from private_lora.data.load import load_examples, validate_data


def test_gsm8k_shaped_file_in_two_parts(tmp_path):
    options = {
        "train_path": write_jsonl(tmp_path / "train.jsonl", qa(6)),
        "test_path": write_jsonl(tmp_path / "test.jsonl", qa(3, start=100)),
        "prompt_field": "question",
        "completion_field": "answer",
    }
    validate_data("jsonl", options, train_examples=6, test_examples=3)
    train = load_examples("jsonl", options, "train", 6, seed=0)
    assert train[0] == Example("What is 0 + 1?\n", "It is 1.\n#### 1", "1")
    assert load_examples("jsonl", options, "test", 1, seed=9)[0].answer == "101"


@pytest.mark.parametrize("key", ["path", "train_path"])
def test_one_file_is_divided_by_prompt_alike_for_every_seed(tmp_path, key):
    options = {key: write_jsonl(tmp_path / "all.jsonl", qa(40) + qa(40))}
    train, test = (load_examples("jsonl", options, s, n, seed=0) for s, n in (("train", 72), ("test", 8)))
    assert not {e.prompt for e in train} & {e.prompt for e in test}
    assert load_examples("jsonl", options, "test", 8, seed=1) == test


def test_field_names_and_a_separate_answer(tmp_path):
    records = [{"q": "Why?", "a": "Because.", "label": "$2,000"}] * 2
    options = {
        "train_path": write_jsonl(tmp_path / "a.jsonl", records),
        "test_path": write_jsonl(tmp_path / "b.jsonl", records),
        "prompt_field": "q",
        "completion_field": "a",
        "answer_field": "label",
    }
    assert load_examples("jsonl", options, "test", 1, 0) == [Example("Why?\n", "Because.", "2000")]
    del options["answer_field"]
    assert load_examples("jsonl", options, "train", 1, 0)[0].answer is None


GOOD = b'{"question": "a", "answer": "b"}\n'


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (GOOD + b"\n" + b'{"question": "a", "answer"\n', "line 3", "not valid JSON"),
        (GOOD + b"[1, 2]\n", "line 2", "not a JSON object but a list"),
        (b'{"question": "a"}', "line 1", "no field 'answer'"),
        (b"{}", "line 1", "no field 'question'"),
        (b'{"question": 3, "answer": "b"}', "line 1", "must be a string, not int"),
        (b'{"question": "a", "answer": null}', "line 1", "must be a string, not NoneType"),
        (b'{"question": "a", "answer": " "}', "line 1", "'answer' is empty"),
        (b'{"question": "\xff", "answer": "b"}', "line 1", "not UTF-8"),
        (b'{"question": "\\ud800", "answer": "b"}', "line 1", "surrogate"),
        (b"[" * 100_000, "line 1", "not valid JSON"),
        (b"", "bad.jsonl is empty", "JSON object"),
        (b"\n \n", "bad.jsonl is empty", "JSON object"),
    ],
)
def test_bad_file_is_named_with_its_line(tmp_path, content, line, reason):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    for options in (
        {"path": str(path)},
        {"train_path": write_jsonl(tmp_path / "ok", qa(2)), "test_path": str(path)},
    ):
        with pytest.raises(UserError) as caught:
            validate_data("jsonl", options)
        message = str(caught.value)
        assert str(path) in message and line in message and reason in message and "\n" not in message


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 2)
    validate_data("jsonl", {"path": str(path)})


def test_too_few_examples_says_how_many(tmp_path):
    options = {"path": write_jsonl(tmp_path / "all.jsonl", qa(20))}
    with pytest.raises(UserError, match="18 train examples and 19"):
        validate_data("jsonl", options, train_examples=19)
    with pytest.raises(UserError, match="2 test examples and 3"):
        load_examples("jsonl", options, "test", 3, 0)
