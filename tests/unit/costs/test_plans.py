"""What is planned before a run is what the run then counts: bytes to the last one, hints, calls."""

import pytest

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.costs import plans
from private_lora.costs.plans import plan_model
from private_lora.models.local import local_model
from private_lora.training.loop import train
from private_lora.training.preparation import prepare, quantization_of

HUGE = "Llama-3.1-70B"


def planned(spec, **options):
    with local_model(spec.model) as model:
        backend = load(spec.backend, **options)
        return plan_model(model, backend, quantization_of(spec), spec.batch_size * spec.sequence_length, spec.seed)


@pytest.mark.parametrize(
    ("backend", "options"),
    [("packed", {}), ("packed_approx", {}), ("packed", {"mask": "fresh"}), ("packed_approx", {"log2_q": 24})],
)
def test_bytes_are_those_that_a_run_counts(make_spec, tmp_path, backend, options):
    # 70 rows fill neither a pad nor a group of eight values.
    spec = make_spec(backend=backend, backend_options=options, steps=2, batch_size=2, sequence_length=35, eval_examples=0)
    plan = planned(spec, **options)
    run = prepare(spec, tmp_path)
    train(run)
    counters = run.session.counters
    for way, counted in enumerate((counters.upload_ciphertext_bytes, counters.download_ciphertext_bytes)):
        assert spec.steps * sum(p.times * p.message_bytes[way] for p in plan.products) == counted
    assert spec.steps * sum(p.times for p in plan.products) == counters.encrypted_products
    hints = run.session.backend.metrics(run.session.keys).get("hint_bytes", (0, ""))[0]
    assert sum(p.held * p.hint_bytes for p in plan.products) == hints
    assert plan.is_exact and plan.weights == plans.REAL
    parameters = [p.plan.parameters for p in run.session.products]
    assert [p.plan.parameters for p in plan.products] == parameters


def test_layers_of_gpt2_have_the_names_of_its_architecture(make_spec, tiny_gpt2_directory):
    plan = planned(make_spec(model=str(tiny_gpt2_directory), backend="packed"))
    assert {p.layer for p in plan.products} == {"attn", "attn_proj", "fc", "proj"}
    assert [p.times for p in plan.products if (p.layer, p.phase) == ("attn", "backward")] == [0, 1]


def test_of_a_large_model_the_first_block_stands_for_all(make_spec, monkeypatch):
    spec = make_spec(backend="packed")
    whole = planned(spec)
    monkeypatch.setattr(plans, "ALL_PLANNED", 0)
    first = planned(spec)
    assert not first.is_exact and "the first of its 2 blocks" in first.say()
    assert sum(p.times for p in first.products) == sum(p.times for p in whole.products)
    assert sum(p.held for p in first.products) == sum(p.held for p in whole.products)


def test_of_a_huge_one_a_part_of_the_columns(make_spec, monkeypatch):
    monkeypatch.setattr(plans, "DRAWN", 2**17)
    spec = make_spec(model=HUGE, weights="random", data="random_tokens", backend="packed")
    plan = planned(spec)
    assert plan.drawn_columns and {p.held for p in plan.products} == {80}
    assert ("gate+up", (8192, 57344)) in {(p.layer, p.shape) for p in plan.products if p.phase == "forward"}


def test_a_layer_that_cannot_be_planned_is_named(make_spec):
    with pytest.raises(UserError, match=r"^layer q\+k\+v forward of .*: a modulus of 8 bits has no room"):
        planned(make_spec(backend="packed_approx"), log2_q=8)
