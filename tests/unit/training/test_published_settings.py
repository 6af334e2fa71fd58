"""Settings of the published notebooks, each beside what a run does without it."""

import json

import pytest
import torch
from peft.tuners.lora import LoraLayer

from private_lora.core.errors import UserError
from private_lora.models.load import load_base
from private_lora.specs.generate import GenerateSpec
from private_lora.training.generation import prepare_writer
from private_lora.training.loop import clip_gradients, train, train_step
from private_lora.training.preparation import prepare
from private_lora.training.run import finetune

STATIC = {"activation_quantizer": "static_per_tensor", "weight_quantizer": "symmetric_per_tensor"}


def adapted(model) -> set[str]:
    return {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@pytest.mark.parametrize("backend", ["float", "integer"])
def test_layers_without_an_adapter_are_computed_by_the_backend_too(backend, make_spec, tiny_gpt2_directory, tmp_path):
    spec = make_spec(backend=backend, model=str(tiny_gpt2_directory), lora_targets=["c_attn"], steps=2, share_inputs=False)
    run = prepare(spec, tmp_path)
    assert adapted(run.model) == {"c_attn"}
    assert {p.name.split(".")[-1] for p in run.session.products} == {
        f"{layer} {direction}" for layer in ("c_attn", "c_proj", "c_fc") for direction in ("forward", "backward")
    }
    train(run)
    uncalled = {p.name for p in run.session.products if not p.server.counters.products}
    assert uncalled == {"transformer.h.0.attn.c_attn backward"}


def test_the_float_split_of_some_targets_is_plain_peft(make_spec, tmp_path):
    from private_lora.training.adapter import add_adapter

    spec = make_spec(backend="float", lora_targets=["q_proj", "down_proj"], lora_dropout=0.0, steps=1)
    run = prepare(spec, tmp_path)
    plain = add_adapter(load_base(spec.model)[0], spec)
    batch = {key: torch.from_numpy(values) for key, values in run.batch(0).items()}
    with torch.no_grad():
        assert float(run.model(**batch).loss) == pytest.approx(float(plain(**batch).loss), rel=1e-5)
    assert [n for n, p in run.model.named_parameters() if p.requires_grad] == [
        n for n, p in plain.named_parameters() if p.requires_grad
    ]


@pytest.mark.parametrize("target", ["lm_head", "c_attn", "embed_tokens", "proj"])
def test_a_target_that_is_no_frozen_linear_layer_is_refused(target, make_spec, tmp_path):
    with pytest.raises(UserError, match=f"no linear layer '{target}': its layers are q_proj, k_proj"):
        prepare(make_spec(lora_targets=["q_proj", target]), tmp_path)


def test_the_adapter_of_some_targets_is_read_again(make_spec, tmp_path):
    spec = make_spec(backend="float", lora_targets=["v_proj"], steps=1)
    assert finetune(spec, tmp_path / "records.csv", tmp_path / "checkpoints")
    asked = GenerateSpec(model=spec.model, backend="float", prompt="a", adapter=str(tmp_path / "adapter"))
    assert adapted(prepare_writer(asked).model) == {"v_proj"}


def test_without_a_largest_norm_gradients_are_left_alone():
    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 3.0)
    assert clip_gradients([parameter], None) == 6.0
    assert (parameter.grad == 3).all()
    assert clip_gradients([parameter], 1.0) == 6.0
    assert float(parameter.grad.norm()) == pytest.approx(1, rel=1e-4)


def test_a_run_without_clipping_records_the_same_norm(make_spec, tmp_path):
    norms = {}
    for largest in (None, 1e-3):
        run = prepare(make_spec(backend="float", max_grad_norm=largest), tmp_path / str(largest))
        train_step(run)
        norms[largest] = [row["value"] for row in run.recorder.rows if row["metric"] == "grad_norm"]
    assert norms[None] == norms[1e-3]
    assert norms[None][0] > 1e-3


def test_a_static_range_is_taken_with_or_without_the_begin_token(make_spec, tmp_path):
    ranges = {}
    for rows in ("begin_token", "random"):
        run = prepare(make_spec(calibration=rows, **STATIC), tmp_path / rows)
        ranges[rows] = {p.name: p.calibrated_range for p in run.session.products}
        train_step(run)
    assert ranges["begin_token"].keys() == ranges["random"].keys()
    assert ranges["begin_token"] != ranges["random"]


def test_examples_that_are_left_out_are_counted_in_the_sidecar(make_spec, tmp_path):
    problems = tmp_path / "problems.jsonl"
    records = [{"question": "Why?", "answer": "So" + " so" * (60 * (i % 4 == 0))} for i in range(40)]
    problems.write_text("".join(json.dumps(record) + "\n" for record in records))
    data = {"data": "jsonl", "data_options": {"path": str(problems)}, "held_out": "drawn", "eval_examples": 4}
    spec = make_spec(backend="float", longer="leave_out", train_examples=20, sequence_length=24, steps=1, **data)
    assert finetune(spec, tmp_path / "records.csv", tmp_path / "checkpoints")
    report = json.loads((tmp_path / "sidecar.json").read_text())["data"]
    assert report == {"examples": 20, "truncated": 0, "left_out": 0, "longer_left_out": 10}
