"""Weights of the clear products in narrow types: what they hold, and what they multiply."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from private_lora.backends import load
from private_lora.backends.clear.held import GROUP, LARGEST, Bfloat16Weight, GroupedWeight, TensorWeight

SHAPES = [(64, 5), (100, 33), (576, 192), (1, 1)]


def weight_of(shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("kind", LARGEST)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_entry_is_off_by_half_a_level_of_its_group(kind, shape):
    weight = weight_of(shape)
    held = GroupedWeight(weight, kind).widened(0, shape[1]).numpy().T
    for start in range(0, shape[0], GROUP):
        group = slice(start, start + GROUP)
        level = np.abs(weight[group]).max(axis=0) / LARGEST[kind]
        # The scale is rounded to bfloat16: the largest levels move by 2^-9 of themselves.
        assert (np.abs(held[group] - weight[group]) <= level * (0.5 + LARGEST[kind] * 2.0**-8)).all()


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.25), ("int4", 4.25)])
def test_a_weight_takes_the_bits_of_its_type(kind, bits):
    assert GroupedWeight(weight_of((576, 192)), kind).byte_count * 8 == bits * 576 * 192


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["int8", "int4", "bfloat16"])
def test_both_directions_multiply_the_weight_that_is_held(kind, shape, monkeypatch):
    monkeypatch.setattr("private_lora.backends.clear.held.BLOCK_ENTRIES", 5 * shape[0])  # several blocks, the last one short
    held = Bfloat16Weight(weight_of(shape)) if kind == "bfloat16" else GroupedWeight(weight_of(shape), kind)
    matrix = held.widened(0, shape[1]).T
    x, g = (torch.randn(7, width).bfloat16().float() for width in shape)
    tolerance = {"rtol": 2.0**-8 if kind == "bfloat16" else 1e-4, "atol": 1e-3}
    torch.testing.assert_close(held.product(x, False), x @ matrix, **tolerance)
    torch.testing.assert_close(held.product(g, True), g @ matrix.T, **tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_a_weight_and_its_transpose_are_held_once(dtype):
    backend, weight = load("float", dtype=dtype), weight_of((70, 30))
    forward = backend.server(backend.plan(weight), weight)
    backward = backend.server(backend.plan(weight.T), weight.T)
    assert backward._held is forward._held
    copy = np.ascontiguousarray(weight.T)
    assert backend.server(backend.plan(copy), copy)._held is not forward._held
    y = ask(backend, backward, weight.T, np.eye(30, dtype=np.float32))
    np.testing.assert_allclose(y, weight.T, atol=0.5)


def ask(backend, server, weight, x) -> np.ndarray:
    client = backend.client(backend.plan(weight))
    return client.decrypt(server.matmul(client.encrypt(x)))


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_integers_by_levels_stay_within_the_plans_error(dtype):
    rng = np.random.default_rng(1)
    x, weight = rng.integers(-128, 128, (30, 500)), rng.integers(-128, 128, (500, 20))
    backend = load("float", dtype=dtype)
    plan = backend.plan(weight, activation_bits=8)
    client = backend.client(plan)
    y = client.decrypt(backend.server(plan, weight).matmul(client.encrypt(x)))
    assert not plan.exact and 0 < np.abs(y - x @ weight).max() <= plan.noise_std


def test_float32_is_no_copy():
    weight = weight_of((40, 20))
    assert TensorWeight(weight, torch.float32)._weight.data_ptr() == weight.ctypes.data


def test_the_report_says_what_multiplied():
    backend = load("float", dtype="int4")
    backend.server(backend.plan(weight_of((4, 4))), weight_of((4, 4)))
    assert backend.report() == {"product": "weights held in int4, widened in blocks at each call and multiplied in float32"}
    assert load("float").report() == {"product": "torch, float32"}
