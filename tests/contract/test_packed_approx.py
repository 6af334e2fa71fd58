"""`packed_approx` errs as `packed_simulated` predicts, never wraps around, and leaves nothing of a row of zeros."""

import math

import numpy as np
import pytest

from private_lora.backends import load
from private_lora.backends.packed.approx import token_scales
from private_lora.backends.packed.exact import parameters_of
from private_lora.crypto.planes import weight_digits

MASKS = ["session", "fresh"]


def integers(seed, shape, bits):
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def product(x, weight):
    return (x.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)


def answered(name, plan_weight, x, bits, log2_q, **options):
    backend = load(name, log2_q=log2_q, **options)
    plan = backend.plan(plan_weight, bits)
    client, server = backend.client(plan).prepare(plan_weight), backend.server(plan, plan_weight)
    return plan, client.decrypt(server.matmul(client.encrypt(x)))


def predicted_stds(plan, x, weight):
    """T x D, by the formula: from each column's digits and each row's scale."""
    digits = weight_digits(weight, plan.weight_bits).astype(np.float64)
    variances = parameters_of(plan).noise_variance(np.sqrt(np.square(digits).sum(axis=0)))
    if plan.parameters["weight"]["digits"] == 2:
        variances = variances[: weight.shape[1]] + 256.0**2 * variances[weight.shape[1] :]
    return np.sqrt(variances)[None] / token_scales(plan, x)[:, None]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["packed_approx", "packed_simulated"])
@pytest.mark.parametrize(
    ("log2_q", "inputs", "weight_bits"), [(26, 512, 8), (24, 256, 8), (22, 64, 8), (26, 256, 16), (26, 512, 12)]
)
def test_errors_of_each_column_are_the_predicted_ones(mask, name, log2_q, inputs, weight_bits):
    weight = integers(1, (inputs, 128), weight_bits) // np.array([1, 2, 8, 1])[np.arange(128) % 4]
    x = integers(0, (1500, inputs), 8) // np.array([1, 4, 16])[np.arange(1500) % 3][:, None]
    plan, y = answered(name, weight, x, 8, log2_q, mask=mask)
    stds = predicted_stds(plan, x, weight)
    assert stds.min() > (2 if weight_bits <= 8 else 300)  # rounding, of each digit for wide weights, adds little
    scaled = (y - product(x, weight)) / stds
    assert abs(np.mean(scaled**2) - 1) < 0.05
    for kind in (scaled[:, 0::4], scaled[:, 1::4], scaled[:, 2::4], scaled[0::3], scaled[1::3], scaled[2::3]):
        assert abs(math.sqrt(np.mean(kind**2)) - 1) < 0.05
    assert np.abs(scaled.mean(axis=0)).max() < 0.3
    assert np.abs(scaled).max() < 8
    assert stds.max() <= plan.noise_std


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("log2_q", [22, 24, 26, 30])
@pytest.mark.parametrize("inputs", [1, 40, 600])
@pytest.mark.parametrize("weight_bits", [2, 8, 16])
def test_the_largest_products_there_can_be_do_not_wrap_around(mask, log2_q, inputs, weight_bits):
    weight = integers(1, (inputs, 40), weight_bits)
    weight[:, 0], weight[:, 1] = -(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1) - 1
    signs = np.where(weight < 0, -1, 1).T
    rows = [signs * 127, -signs * 127, -signs * 128 + (signs < 0) * -1, signs, weight.T >> max(0, weight_bits - 8)]
    x = np.concatenate([*rows, np.full((2, inputs), [[127], [-128]])]).clip(-128, 127)
    plan, y = answered("packed_approx", weight, x, 8, log2_q, mask=mask)
    assert np.abs(y - product(x, weight)).max() < 8 * plan.noise_std
    # Rounding takes a half of each digit on top of the error.
    allowed = 8 * predicted_stds(plan, x, weight) + (1 if weight_bits <= 8 else 257)
    assert (np.abs(y - product(x, weight)) <= allowed).all()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "log2_q",
    [40, 47, 50, 53],
)
def test_small_weights_under_a_large_modulus_do_not_wrap_around(mask, log2_q):
    weight, x = np.eye(64, dtype=np.int64), integers(0, (1000, 64), 16)
    plan, y = answered("packed_approx", weight, x, 16, log2_q, mask=mask)
    assert np.abs(y - x).max() < 8 * plan.noise_std


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("weight_bits", [2, 8, 16])
@pytest.mark.parametrize("log2_q", [22, 26])
def test_rows_of_zeros_are_almost_zero_and_disturb_no_other(mask, weight_bits, log2_q):
    weight = integers(1, (64, 20), weight_bits)
    x = integers(0, (30, 64), 8)
    x[::2] = 0
    plan, y = answered("packed_approx", weight, x, 8, log2_q, mask=mask)
    zero = y[::2]
    allowed = 8 * predicted_stds(plan, x, weight)
    assert (np.abs(zero) <= allowed[::2] + (1 if weight_bits <= 8 else 257)).all()
    assert np.abs(zero).max() < plan.noise_std
    assert (np.abs(y - product(x, weight))[1::2] <= allowed[1::2] + (1 if weight_bits <= 8 else 257)).all()
    assert (answered("packed_approx", weight, np.zeros_like(x), 8, 26, mask=mask)[1].shape) == (30, 20)


@pytest.mark.parametrize("mask", MASKS)
def test_a_weight_of_zeros_gives_zeros_but_for_the_noise(mask):
    for name in ("packed_approx", "packed_simulated"):
        plan, y = answered(name, np.zeros((9, 3), np.int64), integers(0, (5, 9), 8), 8, 26, mask=mask)
        assert np.abs(y).max() <= 8 * plan.noise_std


@pytest.mark.parametrize("mask", MASKS)
def test_one_more_bit_halves_the_error(mask):
    weight, x = integers(1, (256, 64), 8), integers(0, (500, 256), 8)
    # 27 to 30 bits drop nothing: the formula is the same but for the modulus.
    stds = [
        np.std(answered("packed_approx", weight, x, 8, log2_q, mask=mask)[1] - product(x, weight)) for log2_q in (27, 28, 29)
    ]
    assert stds[0] / stds[1] == pytest.approx(2, rel=0.05)
    assert stds[1] / stds[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("mask", MASKS)
def test_simulated_noise_is_a_function_of_seed_and_step(mask):
    weight, x = integers(1, (64, 9), 8), integers(0, (20, 64), 8)

    def at(seed, step):
        backend = load("packed_simulated", seed=seed, mask=mask)
        plan = backend.plan(weight, 8)
        server = backend.server(plan, weight)
        backend.start_step(step)
        return server.matmul(backend.client(plan).encrypt(x)).values

    np.testing.assert_array_equal(at(1, 2), at(1, 2))
    assert (at(1, 2) != at(1, 3)).any()
    assert (at(1, 2) != at(2, 2)).any()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["packed_approx", "packed_simulated"])
def test_a_modulus_without_room_for_the_error_is_refused_in_one_line(mask, name):
    with pytest.raises(ValueError, match=f"a modulus of 16 bits has no room .* give {name} a larger log2_q") as caught:
        load(name, log2_q=16, mask=mask).plan(integers(1, (2048, 8), 8), 8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "security", "ring_size"),
    [
        ("fresh", "matzov", 1024),
        ("fresh", "chaloy21_quantum", 2048),
        ("session", "matzov", 2048),
        ("session", "chaloy21_quantum", 2048),
    ],
)
def test_the_ring_is_the_smallest_the_table_allows(mask, security, ring_size):
    plan = load("packed_approx", security=security, mask=mask).plan(integers(1, (64, 8), 8), 8)
    assert plan.parameters["ring_size"] == ring_size
    assert plan.parameters["log2_q"] == 26
    assert not plan.exact
    assert plan.security_bits == 128
    assert load("packed_simulated").plan(integers(1, (64, 8), 8), 8).security_bits == 0
