"""Concrete ML as the reference: its clear layer equals our integers, its trainer runs on our batches."""

import csv
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_tests import slow_but

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.specs.run import RunSpec
from private_lora.split.quantizers import dequantize_product, quantize_activations, quantize_weight
from private_lora.training.adapter import add_adapter
from private_lora.training.concrete_ml.meter import Meter
from private_lora.training.concrete_ml.trainer import (
    ConcreteMLBackend,
    calibration_batch,
    clear_layer_output,
    layers_without_backward,
)
from private_lora.training.preparation import make_optimizer
from private_lora.training.run import finetune

EXACT_IN_FLOAT32 = 2**24
LAYERS = 24


def random_layer(seed):
    """Weight (K x D), rows (T x K) and bits, some with an offset, so that zero points are not small."""
    rng = np.random.default_rng(seed)
    inputs, outputs, rows = rng.integers(1, 200), rng.integers(1, 60), rng.integers(1, 20)
    weight = rng.normal(rng.choice([0, 0.02]), 0.05, (inputs, outputs)).astype(np.float32)
    x = (rng.normal(rng.choice([0, 0.3]), 1, (rows, inputs)) * rng.choice([1e-4, 1, 30])).astype(np.float32)
    return weight, x, int(rng.integers(2, 9))


def affine(x, bits, axis, smallest):
    """Integers, scale and zero point as the reference defines them: float32, scale 1 for a constant slice."""
    low, high = x.min(axis=axis, keepdims=True), x.max(axis=axis, keepdims=True)
    scale = np.where(high > low, (high - low) / np.float32(2**bits - 1), np.float32(1))
    zero_point = np.round(np.float32(smallest) - low / scale)
    values = np.clip(np.round(x / scale) + zero_point, smallest, smallest + 2**bits - 1)
    return values.astype(np.int64), scale, zero_point.astype(np.int64)


@pytest.mark.parametrize("seed", slow_but(range(3), range(LAYERS)))
def test_clear_layer_equals_the_published_formula_in_int64(seed):
    weight, x, bits = random_layer(seed)
    x_int, x_scale, x_zero = affine(x, bits, axis=1, smallest=0)
    w_int, w_scale, w_zero = affine(weight, bits, axis=0, smallest=-(2 ** (bits - 1)))
    product = x_int @ w_int
    corrections = [
        w_zero * x_int.sum(axis=1, keepdims=True),
        x_zero * w_int.sum(axis=0, keepdims=True),
        x_zero * w_zero * len(weight),
    ]
    largest = max(np.abs(term).max() for term in [product, *corrections])
    assert largest < EXACT_IN_FLOAT32, "the case is not one where Concrete ML's float32 is exact"
    accumulator = product - corrections[0] - corrections[1] + corrections[2]

    theirs = clear_layer_output(weight, x, bits)

    assert np.array_equal(theirs.product, product)
    assert np.array_equal(theirs.accumulator, accumulator)
    np.testing.assert_allclose(theirs.y, accumulator * (x_scale * w_scale), rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", slow_but(range(3), range(LAYERS)))
def test_clear_layer_equals_our_integer_backend(seed):
    weight, x, bits = random_layer(seed)
    ours_x = quantize_activations(x, bits, "dynamic_per_token", "reference")
    ours_w = quantize_weight(weight, bits, "static_per_channel", "reference")
    backend = load("integer")
    plan = backend.plan(ours_w.values, bits)
    client, server = backend.client(plan), backend.server(plan, ours_w.values)
    product = client.decrypt(server.matmul(client.encrypt(ours_x.values)))

    theirs = clear_layer_output(weight, x, bits)

    # Our activations are theirs shifted by 2^(bits-1), so the products differ by that much per unit of
    # weight.
    assert np.array_equal(theirs.product, product + 2 ** (bits - 1) * ours_w.column_sums)
    np.testing.assert_allclose(theirs.y, dequantize_product(product, ours_x, ours_w.terms), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [2, 4, 7, 8, 16])
@pytest.mark.parametrize("seed", range(3))
def test_symmetric_weights_are_those_that_concrete_ml_quantizes_statically(seed, bits):
    from concrete.ml.quantization.quantizers import QuantizedArray

    weight, _, _ = random_layer(seed)
    theirs = QuantizedArray(bits, weight.astype(np.float64), is_signed=True, is_symmetric=True)
    ours = quantize_weight(weight, bits, "symmetric_per_tensor", "reference")
    assert theirs.quantizer.zero_point == 0
    assert not ours.zero_point.any()
    np.testing.assert_allclose(ours.scale, theirs.quantizer.scale, rtol=1e-6)
    # They divide in float64: a value in the middle between two integers may go either way.
    difference = np.abs(ours.values.astype(np.int64) - theirs.qvalues)
    assert difference.max() <= 1 and difference.mean() < 1e-3


@pytest.mark.parametrize(
    ("targets", "count"), [(None, 3), (["q_proj"], 3), (["o_proj"], 4), (["down_proj"], 7), (["up_proj", "v_proj"], 3)]
)
def test_layers_before_the_first_adapter_need_no_backward(targets, count):
    spec = make_spec(lora_targets=targets)
    model = tiny_llama(spec)
    assert layers_without_backward(model, calibration_batch(model, spec)) == count


def make_spec(mode="disable", **changes):
    values = {
        "run_id": "test",
        "model": "nano",
        "data": "math_problems",
        "backend": "concrete_ml",
        "backend_options": {"mode": mode},
        "activation_bits": 8,
        "weight_bits": 8,
        "steps": 2,
        "batch_size": 1,
        "sequence_length": 4,
        "warmup_steps": 1,
        "lora_dropout": 0.3,
        "seed": 3,
    }
    return RunSpec(**(values | changes))


def tiny_llama(spec, hidden=16, heads=2, only_v_and_o=False):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden if hidden < 512 else hidden,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=50,
    )
    model = LlamaForCausalLM(config)
    if only_v_and_o:
        layer = model.model.layers[0]
        layer.mlp = layer.self_attn.q_proj = layer.self_attn.k_proj = torch.nn.Identity()
    return add_adapter(model, spec)


def tiny_gpt2(spec, hidden=16, only_attention=False):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    # Its own dropout is off: it would move activations out of the static ranges, which are calibrated without.
    off = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None}
    config = GPT2Config(n_embd=hidden, n_layer=1, n_head=2, vocab_size=50, n_positions=32, **off)
    model = GPT2LMHeadModel(config)
    # Biases of a real model are not zero.
    model.transformer.h[0].attn.c_proj.bias.data.normal_()
    if only_attention:
        model.transformer.h[0].mlp = torch.nn.Identity()
    return add_adapter(model, spec)


def batch(i, spec):
    generator = torch.Generator().manual_seed(100 + i)
    shape = (spec.batch_size, spec.sequence_length)
    tokens = torch.randint(50, shape, generator=generator)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens.clone()}


def run_concrete_ml(spec, model, batches=None):
    """Reported steps, facts and the backend, after training `model` in place."""
    steps, backend = [], ConcreteMLBackend()
    optimizer, scheduler = make_optimizer(model, spec)
    batches = batches or (lambda i: batch(i, spec))
    facts = backend.train(model, batches, optimizer, scheduler, spec, lambda *row: steps.append(row))
    return steps, facts, backend


def run_float(spec, model, batches=None):
    """(step, loss, gradient norm, learning rate) of plain LoRA training, as our loop does it."""
    optimizer, scheduler = make_optimizer(model, spec)
    model.train()
    steps = []
    for i in range(spec.steps):
        learning_rate = scheduler.get_last_lr()[0]
        torch.manual_seed(spec.seed * 1_000_003 + i)
        loss = model(**(batches[i] if batches else batch(i, spec))).loss
        loss.backward()
        parameters = [p for p in model.parameters() if p.requires_grad]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, spec.max_grad_norm))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        steps.append((i + 1, loss.item(), norm, learning_rate))
    return steps


def adapter(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.slow
@pytest.mark.parametrize("make_model, layers", [(tiny_llama, 2 * 7 - 3), (tiny_gpt2, 2 * 4 - 1)])
def test_clear_training_at_16_bits_follows_plain_lora(make_model, layers):
    # max_grad_norm is below the norms, so clipping acts; dropout is on, so the masks must be the same.
    spec = make_spec(activation_bits=16, weight_bits=16, steps=3, max_grad_norm=0.05, batch_size=2)
    plain, model = make_model(spec), make_model(spec)
    types = [(name, type(module)) for name, module in model.named_modules()]
    # Of the calibration tokens, no activation is outside the static ranges; of others, some gradients are.
    tokens = calibration_batch(model, spec)
    batches = [tokens | {"attention_mask": torch.ones_like(tokens["labels"])}] * spec.steps
    expected = run_float(spec, plain, batches)

    steps, facts, backend = run_concrete_ml(spec, model, batches)

    assert [row[0] for row in steps] == [1, 2, 3]
    np.testing.assert_allclose([row[1] for row in steps], [row[1] for row in expected], rtol=1e-4)
    np.testing.assert_allclose([row[2] for row in steps], [row[2] for row in expected], rtol=5e-3)
    assert [row[3] for row in steps] == [row[3] for row in expected]
    assert all(row[4] > 0 for row in steps)
    assert json.loads(backend.labels["options"])["path"] == "circuit"
    assert facts["compiled_circuits"][0] == layers
    assert facts["remote_matmuls"][0] == layers * spec.steps
    assert facts["encrypted_matmuls"][0] == 0
    assert backend.labels["activation_quantizer"] == "static_per_tensor"
    assert [(name, type(module)) for name, module in model.named_modules()] == types


def test_encrypted_training_executes_circuits():
    spec = make_spec("execute", batch_size=2)
    model, clear = tiny_llama(spec), tiny_llama(spec)
    before = adapter(model)
    clear_steps, _, _ = run_concrete_ml(make_spec("disable", batch_size=2), clear)

    steps, facts, backend = run_concrete_ml(spec, model)

    layers = 2 * 7 - 3
    assert json.loads(backend.labels["options"])["path"] == "circuit"
    assert facts["compiled_circuits"][0] == layers
    assert facts["remote_matmuls"][0] == layers * spec.steps
    # A circuit takes one example, so a batch of two is two encrypted products per layer and step.
    assert facts["encrypted_matmuls"][0] == 2 * layers * spec.steps
    assert facts["remote_rows"][0] == layers * spec.steps * 2 * spec.sequence_length
    assert facts["upload_ciphertext_bytes"][0] > 0
    assert facts["download_ciphertext_bytes"][0] > facts["upload_ciphertext_bytes"][0]
    assert facts["security_bits"][0] == 128
    assert all(facts[f"{stage}_time_s"][0] > 0 for stage in ("encrypt", "matmul", "decrypt"))
    assert facts["wrong_outputs"][0] < 0.01 * facts["checked_outputs"][0]
    np.testing.assert_allclose([row[1] for row in steps], [row[1] for row in clear_steps], rtol=0.02)
    after = adapter(model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    # The model is a plain peft model again.
    loss = model(**batch(0, spec)).loss
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.slow
def test_wide_layers_take_the_glwe_path():
    spec = make_spec(steps=1, sequence_length=2, lora_dropout=0.0)
    expected = run_float(spec, tiny_llama(spec, hidden=512, heads=1))

    steps, facts, backend = run_concrete_ml(spec, tiny_llama(spec, hidden=512, heads=1))

    assert json.loads(backend.labels["options"])["path"] == "glwe"
    assert facts["compiled_circuits"][0] == 0
    assert facts["remote_matmuls"][0] == 2 * 7 - 3
    assert facts["encrypted_matmuls"][0] == 0
    assert backend.labels["activation_quantizer"] == "dynamic_per_token"
    assert backend.labels["weight_quantizer"] == "static_per_channel"
    assert abs(steps[0][1] - expected[0][1]) < 0.02 * expected[0][1]


def test_a_block_of_gpt2_takes_the_glwe_path_and_equals_our_integers(tmp_path):
    """The model of config/studies/concrete_ml.yaml, with weights that nobody trained."""
    shapes = {"model": "GPT-2", "weights": "random", "data": "random_tokens", "blocks": 1, "sequence_length": 2}
    once = {"steps": 1, "train_examples": 1, "eval_examples": 0, "lora_dropout": 0.0, "activation_bits": 7, "weight_bits": 7}
    spec = make_spec(**shapes, **once)
    twin = {"activation_quantizer": "dynamic_per_token", "weight_quantizer": "static_per_channel"}
    ours = make_spec(**shapes, **once, **twin, backend="integer", backend_options={}, constant_rows="reference")
    rows = {}
    for name, one in (("theirs", spec), ("ours", ours)):
        assert finetune(one, tmp_path / name / "records.csv", tmp_path / "checkpoints")
        rows[name] = list(csv.DictReader((tmp_path / name / "records.csv").open()))
    found, expected = ({r["metric"]: r for r in rows[name]} for name in ("theirs", "ours"))

    assert {r["options"] for r in rows["theirs"]} == {'{"mode":"disable","path":"glwe"}'}
    assert {r["activation_quantizer"] for r in rows["theirs"]} == {"dynamic_per_token"}
    assert {r["constant_rows"] for r in rows["theirs"]} == {"reference"}
    counts = {
        "compiled_circuits": 0,
        "remote_layers": 7,
        "remote_matmuls": 7,
        "remote_rows": 14,
        "blocks": 1,
        "model_blocks": 12,
    }
    assert {name: float(found[name]["value"]) for name in counts} == counts
    for name in ("loss", "grad_norm"):
        assert float(found[name]["value"]) == pytest.approx(float(expected[name]["value"]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_model", [partial(tiny_llama, heads=1, only_v_and_o=True), partial(tiny_gpt2, only_attention=True)]
)
def test_glwe_path_encrypts(make_model):
    spec = make_spec("execute", steps=1, sequence_length=2, lora_dropout=0.0, activation_bits=7, weight_bits=7)
    expected = run_float(spec, make_model(spec, hidden=512))

    steps, facts, backend = run_concrete_ml(spec, make_model(spec, hidden=512))  # 4 to 10 ms per row and output

    assert json.loads(backend.labels["options"])["path"] == "glwe"
    assert facts["compiled_circuits"][0] == 0
    assert facts["encrypted_matmuls"][0] == facts["remote_matmuls"][0] == 2 * 2 - 1
    assert facts["public_material_bytes"][0] > 10**8
    assert facts["security_bits"][0] == 128
    # What the extension adds to a product: see backends.glwe.
    assert facts["accumulator_noise_samples"][0] >= 512 * facts["remote_rows"][0]
    assert 15 < facts["accumulator_noise_std"][0] < 23
    assert steps[0][1] == pytest.approx(expected[0][1], rel=0.02)


@pytest.mark.parametrize("calls", [{}, {"glwe_calls": 2, "encrypted_products": 1}, {"circuit_calls": 1}])
def test_a_run_that_did_not_encrypt_every_call_is_refused(calls):
    with pytest.raises(RuntimeError, match="to execute under encryption"):
        Meter(**calls).check_encrypted()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run():
    spec = make_spec()
    model = tiny_llama(spec)
    optimizer, scheduler = make_optimizer(model, spec)
    unlabelled = batch(0, spec) | {"labels": torch.full((1, spec.sequence_length), -100)}
    with pytest.raises(FloatingPointError, match="step 1"):
        ConcreteMLBackend().train(model, [unlabelled] * 2, optimizer, scheduler, spec, lambda *row: None)
    assert torch.isfinite(model(**batch(0, spec)).loss)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"backend_options": {"mode": "simulate"}}, "mode must be one of disable, execute"),
        ({"backend_options": {"mod": "execute"}}, "unknown option of backend concrete_ml 'mod'"),
        ({"weight_bits": 7}, "must be equal"),
        ({"recompute": True}, "keeps all activations: set recompute to false"),
    ],
)
def test_a_spec_it_cannot_run_is_refused_in_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        make_spec(**changes)


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    export = torch.onnx.export
    spec = make_spec(steps=1)
    capfd.readouterr()
    run_concrete_ml(spec, tiny_llama(spec))
    assert torch.onnx.export is export
    assert tempfile.tempdir == str(tmp_path)
    assert list(Path(tmp_path).iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_importing_the_module_does_not_import_concrete_ml():
    code = "import sys, private_lora.training.concrete_ml.trainer; sys.exit('concrete.ml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
