"""The split layer: gradients, zero rows, Conv1D, and what is and is not sent."""

import numpy as np
import pytest
import torch

from private_lora.backends import load
from private_lora.linear import Quantization, RemoteProduct, Session
from private_lora.models import load_base
from private_lora.registry import BACKENDS
from private_lora.training import add_adapter, make_session, prepare, train

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]
QUANTIZED = [name for name in MATMUL if BACKENDS[name].quantized]
PAIRS = [
    ("dynamic_per_token", "static_per_channel"),
    ("dynamic_per_tensor", "static_per_tensor"),
    ("static_per_tensor", "static_per_tensor"),
    ("symmetric_per_token", "symmetric_per_channel"),
]


def session_of(name, pair=PAIRS[0], bits=8, constant_rows="exact"):
    quantized = BACKENDS[name].quantized
    quantization = Quantization(*pair, bits if quantized else None, bits if quantized else None, constant_rows)
    return Session(load(name), quantization)


def random_rows(seed, rows, columns):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("name", MATMUL)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_zero_row_stays_zero_through_every_backend(name, pair):
    session = session_of(name, pair)
    product = RemoteProduct(session, random_rows(0, 24, 5), "layer")
    product.calibrated_range = (-3.0, 3.0)
    x = random_rows(1, 3, 24)
    x[1] = 0
    y = product(x)
    assert (y[1] == 0).all()
    assert (y[0] != 0).any()


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_layer_is_close_to_the_float_one(name):
    weight, x = random_rows(0, 64, 12), random_rows(1, 3, 64)
    y = RemoteProduct(session_of(name), weight, "layer")(x)
    expected = x @ weight
    noise = 40 * np.abs(x).max() / 127 * np.abs(weight).max() / 127
    assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max() + (0 if load_is_exact(name) else 3 * noise)


def load_is_exact(name):
    return load(name).plan(np.ones((4, 4), np.int64), activation_bits=8).exact


def test_sixteen_bits_differ_from_float_by_less_than_a_thousandth():
    weight, x = random_rows(0, 512, 192), random_rows(1, 256, 512)
    y = RemoteProduct(session_of("integer", bits=16), weight, "layer")(x)
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    assert np.linalg.norm(y - exact) / np.linalg.norm(exact) < 1e-3


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_float_split_is_plain_peft(architecture, make_spec, tiny_llama_directory, tiny_gpt2_directory):
    directory = {"llama": tiny_llama_directory, "gpt2": tiny_gpt2_directory}[architecture]
    spec = make_spec(model=str(directory), backend="float")
    tokens = torch.arange(3, 19).reshape(2, 8)
    losses, gradients = [], []
    for split in (False, True):
        model = add_adapter(load_base(str(directory))[0], spec)
        if split:
            make_session(model, spec)
        model.eval()
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)


def test_the_first_layers_need_no_backward_call(make_spec, tmp_path):
    run = prepare(make_spec(steps=1, eval_examples=0), tmp_path)
    train(run, progress=False)
    calls = {p.name.split("layers.")[1]: p.server.counters.products for p in run.session.products}
    assert len(calls) == 2 * 7 * 2
    unused = {name for name, count in calls.items() if count == 0}
    assert unused == {f"0.self_attn.{name}_proj backward" for name in "qkv"}
    assert run.session.counters.products == 14 + 11


def test_the_head_and_the_embedding_stay_with_the_client(make_spec, tmp_path):
    run = prepare(make_spec(), tmp_path)
    assert not any("lm_head" in p.name or "embed" in p.name for p in run.session.products)


def test_static_ranges_come_from_a_pass_that_leaves_no_trace(make_spec, tmp_path):
    static = {"activation_quantizer": "static_per_tensor", "weight_quantizer": "static_per_tensor"}
    run = prepare(make_spec(**static), tmp_path)
    ranges = {p.name: p.calibrated_range for p in run.session.products}
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert ranges["model.layers.1.mlp.gate_proj forward"][1] > 0.1
    assert all(p.grad is None or not p.grad.any() for p in run.model.parameters())
    assert run.session.counters.products == 0
