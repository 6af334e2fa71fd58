"""Held-out losses with and without padding: of one pass, and equal to those of rows whose padding has no labels."""

import json

import pytest

from private_lora.data.encoding import encode
from private_lora.data.sources.math_problems import examples
from private_lora.models.load import load_base
from private_lora.training import head
from private_lora.training.evaluation import evaluate_losses, greedy_answers
from private_lora.training.loop import evaluate, train
from private_lora.training.metrics import perplexity
from private_lora.training.preparation import prepare

LENGTH = 96


@pytest.fixture(scope="module")
def base(tiny_llama_directory):
    return load_base(str(tiny_llama_directory))


@pytest.fixture(scope="module")
def problems():
    source = iter(examples({}, "test", 0))
    return [next(source) for _ in range(7)]


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_loss_without_padding_is_that_of_rows_without_padding_labels(base, problems, batch_size):
    model, tokenizer = base
    counted, plain = (encode(problems, tokenizer, LENGTH, count_padding=flag) for flag in (True, False))
    both = evaluate_losses(model, counted, batch_size, count_padding=True)
    alone = evaluate_losses(model, plain, batch_size, count_padding=False)
    assert list(alone.losses) == ["loss"]
    assert both.losses["loss_without_padding"] == pytest.approx(alone.losses["loss"], rel=1e-5)
    assert abs(both.losses["loss"] - both.losses["loss_without_padding"]) > 1e-3


def test_a_second_loss_needs_no_second_pass(base, problems):
    model, tokenizer = base
    passes = []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    try:
        evaluate_losses(model, encode(problems, tokenizer, LENGTH, count_padding=True), 4, count_padding=True)
    finally:
        hook.remove()
    assert len(passes) == 2
    assert model.training


@pytest.mark.parametrize("count_padding", [True, False])
def test_both_metrics_are_recorded_where_padding_counts(make_spec, tmp_path, count_padding):
    run = prepare(make_spec(backend="integer", count_padding=count_padding, sequence_length=LENGTH), tmp_path)
    evaluate(run, ends=False)
    values = {row["metric"]: row["value"] for row in run.recorder.rows}
    names = ["loss", "perplexity"]
    names += ["loss_without_padding", "perplexity_without_padding"] if count_padding else []
    assert list(values) == names
    assert all(values[name.replace("loss", "perplexity")] == perplexity(values[name]) for name in names if "loss" in name)


def learned(make_spec, tmp_path, **changes):
    """A run that was trained until it answers some of a small knowledge base, and not all."""
    options = {"people": 2, "products": 1, "rules": 1, "unanswerable": 2}
    known = 4 * 2 + 4 + 1
    spec = make_spec(
        model="mini-llama", data="knowledge_base", data_options=options, steps=30, batch_size=16, sequence_length=64,
        train_examples=6 * (known + 2), eval_examples=2 * (known + 2), learning_rate=5e-3, **changes,
    )  # fmt: skip
    run = prepare(spec, tmp_path)
    train(run)
    return run


@pytest.fixture(scope="module")
def some_answers(make_spec, tmp_path_factory):
    return learned(make_spec, tmp_path_factory.mktemp("learned"), backend="integer", activation_bits=8, weight_bits=8)


def test_a_row_counts_as_answered_when_the_model_would_write_the_answer(some_answers):
    run = some_answers
    found = evaluate_losses(run.model, run.eval_encoded, 8, count_padding=False)
    texts = greedy_answers(run.model, run.tokenizer, run.held_out, 24, 8)
    written = [text == example.completion for text, example in zip(texts, run.held_out, strict=True)]
    assert found.answered.tolist() == written
    assert 0 < sum(written) < len(written)


def test_chunks_of_labelled_tokens_give_the_same_answers(some_answers, monkeypatch):
    run = some_answers
    whole = evaluate_losses(run.model, run.eval_encoded, 8, count_padding=False)
    monkeypatch.setattr(head, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(head, "CHUNK_ROWS", 7)
    parts = evaluate_losses(run.model, run.eval_encoded, 8, count_padding=False)
    assert parts.answered.tolist() == whole.answered.tolist()
    assert parts.losses["loss"] == pytest.approx(whole.losses["loss"], rel=1e-5)


def test_exact_match_is_recorded_at_every_evaluation_by_kind(some_answers):
    rows = [row for row in some_answers.recorder.rows if row["phase"] == "eval"]
    at_end = {row["metric"]: row["value"] for row in rows if row["step"] == 30}
    assert (at_end["exact_match_questions"], at_end["exact_match_unanswerable_questions"]) == (26, 4)
    assert 0 < at_end["exact_match"] <= 1
    assert {row["step"] for row in rows if row["metric"] == "exact_match"} == {0, 30}


def test_what_is_forgotten_and_written_is_recorded_at_both_ends(make_spec, tmp_path):
    run = learned(make_spec, tmp_path, backend="float", general_examples=3, generate_examples=2, eval_every=10)
    rows = [(row["metric"], row["step"]) for row in run.recorder.rows if row["phase"] == "eval"]
    assert [step for metric, step in rows if metric == "general_loss"] == [0, 30]
    assert [step for metric, step in rows if metric == "generated_exact_match"] == [0, 30]
    assert [step for metric, step in rows if metric == "exact_match"] == [0, 10, 20, 30]
    answers = [row for row in run.recorder.rows if row["metric"] == "answer"]
    assert [(row["step"], row["sample"]) for row in answers] == [(0, 0), (0, 1), (30, 0), (30, 1)]
    assert all(json.loads(row["note"])["question"] and json.loads(row["note"])["expected"] for row in answers)
    assert 0 < run.exact_match_by_guessing < 0.8
