"""Which examples are trained on and which are held out: as the published scripts choose them, where a run asks for that."""

import json

import pytest

from private_lora.core.errors import UserError
from private_lora.data.load import load_divided, validate_data
from private_lora.specs.run import RunSpec


@pytest.fixture
def options(tmp_path):
    """A file of 40 records, the answers of every third one long."""
    path = tmp_path / "records.jsonl"
    records = [{"question": f"Q{i}", "answer": f"A{i}" + " and so on" * (i % 3 == 0)} for i in range(40)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return {"path": str(path)}


def short(examples):
    return [len(example.completion) < 8 for example in examples]


def completions(examples):
    return [example.completion for example in examples]


def test_drawn_examples_are_those_of_the_published_split(options):
    from datasets import load_dataset

    every = load_dataset("json", data_files=options["path"], split="train").filter(lambda record: len(record["answer"]) < 8)
    published = every.train_test_split(test_size=5, seed=0, shuffle=True)
    ours = load_divided("jsonl", options, 12, 5, seed=3, held_out="drawn", fits=short)
    assert completions(ours.held_out) == published["test"]["answer"]
    assert completions(ours.train) == published["train"].select(range(12))["answer"]
    assert ours.passed_over == 14


def test_nothing_held_out_is_the_whole_file_in_its_order(options):
    ours = load_divided("jsonl", options, 40, 0, seed=0, held_out="nothing")
    assert [example.prompt for example in ours.train] == [f"Q{i}\n" for i in range(40)]
    assert ours.held_out == [] and ours.passed_over == 0


def test_what_does_not_fit_is_passed_over_before_examples_are_counted(options):
    plain = load_divided("jsonl", options, 36, 4, seed=0)
    ours = load_divided("jsonl", options, 10, 1, seed=0, fits=short)
    assert completions(ours.train) == [c for c in completions(plain.train) if len(c) < 8][:10]
    assert completions(ours.held_out) == [c for c in completions(plain.held_out) if len(c) < 8][:1]
    passed = completions(plain.train).index(ours.train[-1].completion) + 1 - 10
    assert ours.passed_over == passed > 0


def test_fewer_that_fit_than_asked_for_are_refused(options):
    with pytest.raises(UserError, match="Data jsonl has 26 examples that fit and 30 were asked for"):
        load_divided("jsonl", options, 25, 5, seed=0, held_out="drawn", fits=short)


def test_files_are_counted_as_they_will_be_divided(options):
    validate_data("jsonl", options, 40, 0, "nothing")
    validate_data("jsonl", options, 30, 10, "drawn")
    with pytest.raises(UserError, match="has 36 train examples"):
        validate_data("jsonl", options, 40, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": "nothing"}, "set eval_examples to 0"),
        ({"held_out": "drawn", "data": "math_problems"}, "math_problems has a held-out part of its own: .* jsonl, hub"),
        ({"held_out": "drawn", "data_options": {"train_path": "a", "test_path": "b"}}, "leave 'test_path' out"),
        (
            {"held_out": "nothing", "eval_examples": 0, "data": "hub", "data_options": {"name": "a/b", "test_split": "test"}},
            "leave 'test_split' out",
        ),
    ],
)
def test_what_cannot_be_held_out_is_refused_before_any_work(fields, message):
    with pytest.raises(UserError, match=message):
        RunSpec(**{"run_id": "a", "model": "nano", "backend": "float", "data": "jsonl"} | fields)
