"""Held-out losses with and without padding: of one pass, and equal to those of rows whose padding has no labels."""

import pytest

from private_lora.data.encoding import encode
from private_lora.data.sources.math_problems import examples
from private_lora.models.load import load_base
from private_lora.training.evaluation import evaluate_losses
from private_lora.training.loop import evaluate
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
    assert list(alone) == ["loss"]
    assert both["loss_without_padding"] == pytest.approx(alone["loss"], rel=1e-5)
    assert abs(both["loss"] - both["loss_without_padding"]) > 1e-3


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
    evaluate(run, generate=False)
    values = {row["metric"]: row["value"] for row in run.recorder.rows}
    names = ["loss", "perplexity"]
    names += ["loss_without_padding", "perplexity_without_padding"] if count_padding else []
    assert list(values) == names
    assert all(values[name.replace("loss", "perplexity")] == perplexity(values[name]) for name in names if "loss" in name)
