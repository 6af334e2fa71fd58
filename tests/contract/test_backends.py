"""The contract of every matmul backend in the registry: a new one is tested here without a new test."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.backends import load
from private_lora.backends.contract import is_ciphertext, lowest_bits
from private_lora.core.errors import UserError
from private_lora.specs.backends import BACKENDS

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]
QUANTIZED = [name for name in MATMUL if BACKENDS[name].quantized]


def integers(seed, shape, bits):
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def parties(name, weight, bits):
    backend = load(name)
    plan = backend.plan(weight, activation_bits=bits)
    client = backend.client(plan, shared_keys(name, backend, plan)).prepare(weight)
    return backend, plan, client, backend.server(plan, weight)


_KEYS = {}


def shared_keys(name, backend, plan):
    """One key per backend for all tests: making the paper's packing key takes seconds."""
    if name not in _KEYS:
        _KEYS[name] = backend.client(plan).keys
    return _KEYS[name]


def assert_is_product(y, plan, x, weight):
    expected = x.astype(np.int64) @ weight.astype(np.int64)
    assert y.shape == expected.shape
    assert y.dtype == np.int64
    error = np.abs(y - expected)
    assert error.max() == 0 if plan.exact else error.max() <= 8 * plan.noise_std


@pytest.mark.parametrize("name", MATMUL)
@pytest.mark.parametrize(("rows", "inputs", "outputs", "bits"), [(3, 17, 5, 8), (1, 64, 3, 7), (5, 1, 1, 4), (2, 33, 2, 2)])
def test_decrypted_answer_is_the_product(name, rows, inputs, outputs, bits):
    x, weight = integers(0, (rows, inputs), bits), integers(1, (inputs, outputs), bits)
    _, plan, client, server = parties(name, weight, bits)
    question = client.encrypt(x)
    answer = server.matmul(question)
    # What a client counts by, whoever is the server.
    assert is_ciphertext(question) == is_ciphertext(answer) == BACKENDS[name].encrypted
    y = client.decrypt(answer)
    assert_is_product(y, plan, x, weight)
    assert server.counters.products == 1
    assert (server.counters.encrypted_products == 1) == BACKENDS[name].encrypted


@pytest.mark.parametrize("name", MATMUL)
@pytest.mark.parametrize("extreme", ["all max", "all min", "one hot", "zero"])
def test_extreme_inputs(name, extreme):
    bits, shape = 7, (2, 40)
    x = {
        "all max": np.full(shape, 2 ** (bits - 1) - 1),
        "all min": np.full(shape, -(2 ** (bits - 1))),
        "one hot": np.eye(*shape, dtype=np.int64) * 63,
        "zero": np.zeros(shape, np.int64),
    }[extreme]
    weight = np.full((40, 3), -64)
    _, plan, client, server = parties(name, weight, bits)
    assert_is_product(client.decrypt(server.matmul(client.encrypt(x))), plan, x, weight)


@pytest.mark.parametrize("name", MATMUL)
def test_messages_survive_bytes(name):
    x, weight = integers(0, (2, 19), 8), integers(1, (19, 4), 8)
    backend, plan, client, server = parties(name, weight, 8)
    material = client.public_material()
    if material is not None:
        server.accept(backend.public_material_from_bytes(material.to_bytes()))
    question = backend.ciphertext_from_bytes(client.encrypt(x).to_bytes())
    answer = backend.ciphertext_from_bytes(server.matmul(question).to_bytes())
    assert_is_product(client.decrypt(answer), plan, x, weight)


@pytest.mark.parametrize("name", MATMUL)
def test_damaged_bytes_are_refused(name):
    x, weight = integers(0, (2, 19), 8), integers(1, (19, 4), 8)
    backend, _, client, _ = parties(name, weight, 8)
    data = client.encrypt(x).to_bytes()
    for damaged in (b"", data[:3], data[: len(data) // 2], b"XXXX" + data[4:]):
        with pytest.raises(ValueError, match=r"\w+"):
            backend.ciphertext_from_bytes(damaged)


@pytest.mark.parametrize("name", QUANTIZED)
def test_rows_that_do_not_fit_the_plan_are_refused(name):
    weight = integers(1, (19, 4), 8)
    _, _, client, _ = parties(name, weight, 8)
    for bad in (
        np.zeros((2, 18), np.int64),
        np.zeros(19, np.int64),
        np.full((1, 19), 128),
        np.zeros((1, 19)),
    ):
        with pytest.raises(ValueError, match="activations"):
            client.encrypt(bad)


@pytest.mark.parametrize("name", QUANTIZED)
def test_weights_that_are_no_integer_matrix_are_refused(name):
    for bad in (np.zeros((3, 3)), np.zeros(3, np.int64), np.zeros((0, 3), np.int64)):
        with pytest.raises(ValueError, match="weight"):
            load(name).plan(bad, activation_bits=8)


@pytest.mark.parametrize("name", [n for n in MATMUL if BACKENDS[n].encrypted])
def test_the_server_and_its_messages_hold_no_secret(name):
    x, weight = integers(0, (2, 19), 8), integers(1, (19, 4), 8)
    _, plan, client, server = parties(name, weight, 8)
    question = client.encrypt(x)
    server.matmul(question)
    reachable = _reachable(server)
    assert client.keys is not None
    assert not any(item is client.keys or item is client.keys.secret or item is client for item in reachable)
    with pytest.raises(TypeError):
        pickle.dumps(client.keys)
    assert plan.security_bits >= 128


@pytest.mark.parametrize("name", [n for n in MATMUL if BACKENDS[n].encrypted])
def test_encrypting_twice_gives_different_ciphertexts(name):
    x, weight = integers(0, (2, 19), 8), integers(1, (19, 4), 8)
    _, _, client, _ = parties(name, weight, 8)
    first, second = client.encrypt(x).to_bytes(), client.encrypt(x).to_bytes()
    assert len(first) == len(second)
    different = np.mean(np.frombuffer(first, np.uint8) != np.frombuffer(second, np.uint8))
    assert different > 0.5


@pytest.mark.parametrize("name", [n for n in MATMUL if BACKENDS[n].encrypted])
def test_an_answer_under_another_key_is_refused(name):
    x, weight = integers(0, (1, 19), 8), integers(1, (19, 2), 8)
    backend, plan, client, server = parties(name, weight, 8)
    answer = server.matmul(client.encrypt(x))
    with pytest.raises(ValueError, match="key"):
        backend.client(plan).decrypt(answer)


def _reachable(root, depth=4):
    """Objects reachable from `root` through attributes and containers."""
    found, frontier = [], [root]
    for _ in range(depth):
        frontier = [child for item in frontier for child in _children(item)]
        found += frontier
    return found


def _children(item):
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, (list, tuple)):
        return list(item)
    return list(getattr(item, "__dict__", {}).values())


@pytest.mark.parametrize("kernel", ["int8", "float32", "float64", "int64"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 60), st.integers(1, 40))
@settings(max_examples=20)
def test_every_kernel_gives_the_same_integers(kernel, seed, rows, inputs, outputs):
    from private_lora.backends.clear.arithmetic import ExactProduct

    x, weight = integers(seed, (rows, inputs), 8), integers(seed + 1, (inputs, outputs), 8)
    np.testing.assert_array_equal(ExactProduct(weight, 8, kernel)(x), x @ weight)


@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.integers(2, 16), st.booleans())
@settings(max_examples=40)
def test_the_product_of_digits_gives_the_integers_up_to_16_bits(seed, x_bits, weight_bits, signed):
    from private_lora.backends.clear.arithmetic import DIGITS, ExactProduct

    draw = np.random.default_rng(seed)
    rows, inputs, outputs = draw.integers(1, 40, 3)
    low = -(2 ** (x_bits - 1)) if signed else 0
    x = draw.integers(low, low + 2**x_bits, (rows, inputs))
    weight = draw.integers(-(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1), (inputs, outputs))
    # The extremes are where a digit could overflow.
    x.flat[0], weight.flat[0] = low + 2**x_bits - 1, -(2 ** (weight_bits - 1))
    np.testing.assert_array_equal(ExactProduct(weight, x_bits, DIGITS)(x), x @ weight)


@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.integers(2, 16))
@settings(max_examples=60)
def test_integer_is_the_int64_product_at_every_bit_width(seed, activation_bits, weight_bits):
    x, weight = integers(seed, (9, 130), activation_bits), integers(seed + 1, (130, 21), weight_bits)
    x[0], x[1] = 2 ** (activation_bits - 1) - 1, -(2 ** (activation_bits - 1))
    _, _, client, server = parties("integer", weight, activation_bits)
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(x))), x @ weight)


@pytest.mark.parametrize("name", ["glwe", "glwe_simulated"])
def test_a_plan_that_could_wrap_around_is_refused_before_encryption(name):
    weight = integers(0, (2048, 8), 12)
    with pytest.raises(ValueError, match="27 bits") as caught:
        load(name).plan(weight, activation_bits=12)
    assert "\n" not in str(caught.value)
    assert load(name).plan(integers(0, (2048, 8), 8), activation_bits=8).bound < 2**26


def test_the_bound_is_reached_and_not_passed():
    from private_lora.backends.contract import accumulator_bound

    weight = integers(3, (50, 7), 8)
    worst = np.where(weight[:, np.abs(weight).sum(axis=0).argmax()] < 0, 127, -128)[None]
    assert np.abs(worst @ weight).max() <= accumulator_bound(weight, 8)
    assert np.abs(worst @ weight).max() > 0.98 * accumulator_bound(weight, 8)


def test_simulated_wrap_around_is_that_of_27_signed_bits():
    from private_lora.backends.glwe.simulated import wrap

    edge = 2**26
    np.testing.assert_array_equal(wrap(np.array([0, edge - 1, edge, -edge, -edge - 1])), [0, edge - 1, -edge, -edge, edge - 1])


@pytest.mark.parametrize("option", ["wrap", "wrap_unsigned"])
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(2, 16))
@settings(max_examples=40)
def test_simulated_sums_wrap_around_where_the_plan_says_that_they_could(option, seed, bits):
    x, weight = integers(seed, (5, 90), bits), integers(seed + 1, (90, 11), bits)
    x[0], x[1] = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    backend = load("glwe_simulated", noise_std=0, overflow=option)
    plan = backend.plan(weight, bits)
    y = backend.server(plan, weight).matmul(backend.client(plan).encrypt(x)).values
    shift = 2 ** (bits - 1) if option == "wrap_unsigned" else 0
    sums = (x + shift) @ weight
    assert np.abs(sums).max().item().bit_length() < plan.parameters["accumulator_bits"]
    np.testing.assert_array_equal((y - x @ weight) % 2**27, 0)
    wraps = (sums < -(2**26)) | (sums >= 2**26)
    np.testing.assert_array_equal(y != x @ weight, wraps)
    assert plan.parameters["accumulator_bits"] > 27 or not wraps.any()


def test_the_extension_wraps_around_as_the_simulation_does():
    weight, x = integers(0, (300, 4), 14), integers(1, (2, 300), 14)
    backend = load("glwe")
    # A plan that the backend refuses, by hand.
    plan = replace(backend.plan(np.ones_like(weight), 8), activation_bits=14, weight_bits=14)
    client, server = backend.client(plan, shared_keys("glwe", backend, plan)), backend.server(plan, weight)
    y = client.decrypt(server.matmul(client.encrypt(x)))
    assert (np.abs(x @ weight) > 2**26).any()
    assert np.abs(lowest_bits(y - lowest_bits(x @ weight, 27), 27)).max() <= 8 * plan.noise_std
    assert np.abs(y).max() < 2**26 + 8 * plan.noise_std


def test_simulated_noise_has_the_stated_deviation():
    x, weight = integers(0, (200, 64), 8), integers(1, (64, 100), 8)
    _, plan, client, server = parties("glwe_simulated", weight, 8)
    error = client.decrypt(server.matmul(client.encrypt(x))) - x @ weight
    assert abs(error.std() / plan.noise_std - 1) < 0.03
    assert abs(error.mean()) < 0.6


def test_unknown_backend_and_device_are_named_with_what_is_known():
    with pytest.raises(UserError, match="known are float, integer"):
        load("homomorphic_magic")
    with pytest.raises(UserError, match="known are cpu"):
        load("integer", device="cuda")


def test_float_in_bfloat16_multiplies_rounded_matrices():
    import torch

    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((40, 300), np.float32), rng.standard_normal((300, 20), np.float32)
    backend = load("float", dtype="bfloat16")
    plan = backend.plan(weight)
    client, server = backend.client(plan), backend.server(plan, weight)
    answer = client.decrypt(server.matmul(client.encrypt(x)))
    rounded = [torch.from_numpy(matrix).bfloat16().float().numpy() for matrix in (x, weight)]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, torch.from_numpy(answer).bfloat16().float().numpy())
    np.testing.assert_allclose(answer, rounded[0] @ rounded[1], rtol=2.0**-7, atol=1e-3)
    assert plan.parameters == {"dtype": "bfloat16"} and load("float").plan(weight).parameters == {}


def test_float_in_bfloat16_stays_within_its_plans_error():
    x, weight = integers(0, (30, 500), 8), integers(1, (500, 20), 8)
    backend = load("float", dtype="bfloat16")
    plan = backend.plan(weight, activation_bits=8)
    answer = backend.client(plan)
    y = answer.decrypt(backend.server(plan, weight).matmul(answer.encrypt(x)))
    assert not plan.exact and 0 < np.abs(y - x @ weight).max() <= plan.noise_std
