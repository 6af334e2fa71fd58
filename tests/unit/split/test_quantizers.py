"""Quantizers against their formulas, and the promise about constant rows."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.specs.fields import MAX_BITS, MIN_BITS
from private_lora.split.quantizers import dequantize_product, quantize_activations, quantize_weight

PAIRS = [
    ("dynamic_per_token", "static_per_channel"),
    ("dynamic_per_tensor", "static_per_tensor"),
    ("static_per_tensor", "static_per_tensor"),
    ("symmetric_per_token", "symmetric_per_channel"),
    ("static_per_tensor", "symmetric_per_tensor"),
]
BITS = st.integers(MIN_BITS, MAX_BITS)
SEEDS = st.integers(0, 2**32 - 1)


def random_matrix(seed, rows=7, columns=23, scale=1.0):
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * scale).astype(np.float32)


def reference_unsigned(x, bits):
    """facts: s=(max-min)/(2^n-1), z=round(-min/s), x_q=clamp(round(x/s)+z, 0, 2^n-1), in float32 as the reference does."""
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    scale = (high - low) / np.float32(2**bits - 1)
    zero = np.rint(-low / scale)
    return np.clip(np.rint(x / scale) + zero, 0, 2**bits - 1), scale, zero


@given(SEEDS, BITS)
@settings(max_examples=60)
def test_per_token_is_the_reference_formula_shifted(seed, bits):
    x = random_matrix(seed)
    expected, scale, zero = reference_unsigned(x, bits)
    got = quantize_activations(x, bits, "dynamic_per_token")
    half = 2 ** (bits - 1)
    np.testing.assert_array_equal(got.values, expected - half)
    np.testing.assert_array_equal(got.zero_point, zero - half)
    np.testing.assert_array_equal(got.scale, scale)


@given(SEEDS, BITS)
@settings(max_examples=60)
def test_per_channel_weight_is_the_reference_formula(seed, bits):
    weight = random_matrix(seed)
    expected, scale, zero = reference_unsigned(weight.T.copy(), bits)
    got = quantize_weight(weight, bits, "static_per_channel")
    half = 2 ** (bits - 1)
    np.testing.assert_array_equal(got.values, (expected - half).T)
    np.testing.assert_array_equal(got.scale, scale.T)
    np.testing.assert_array_equal(got.zero_point, (zero - half).T)


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
@given(SEEDS, BITS, st.sampled_from([1e-6, 1.0, 1e4]))
@settings(max_examples=25)
def test_values_fit_their_bits_and_round_to_half_a_step(activations, weights, seed, bits, scale):
    x = random_matrix(seed, scale=scale)
    low, high = float(x.min()), float(x.max())
    q = quantize_activations(x, bits, activations, calibrated_range=(low, high))
    w = quantize_weight(x, bits, weights)
    for quantized in (q, w):
        assert quantized.values.min() >= -(2 ** (bits - 1))
        assert quantized.values.max() < 2 ** (bits - 1)
        # Half a step for the value, half for the zero point, and one where both round to the same side of the clamp.
        assert (np.abs(quantized.dequantize() - x) <= 1.01 * quantized.scale + 1e-6 * np.abs(x)).all()


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
@given(SEEDS, BITS)
@settings(max_examples=25)
def test_dequantized_product_is_the_product_of_the_dequantized(activations, weights, seed, bits):
    x, weight = random_matrix(seed), random_matrix(seed + 1, 23, 11)
    q = quantize_activations(x, bits, activations, calibrated_range=(-2.0, 2.0))
    w = quantize_weight(weight, bits, weights)
    product = q.values.astype(np.int64) @ w.values.astype(np.int64)
    expected = q.dequantize().astype(np.float64) @ w.dequantize().astype(np.float64)
    assert np.abs(dequantize_product(product, q, w.terms) - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("quantizer", [pair[0] for pair in PAIRS])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("constant", [0.0, 0.3, -7.25, 1e-20])
def test_constant_rows_come_back_exactly(quantizer, bits, constant):
    x = random_matrix(0)
    x[3] = constant
    q = quantize_activations(x, bits, quantizer, calibrated_range=(-1.0, 1.0))
    assert (q.dequantize()[3] == np.float32(constant)).all()


@pytest.mark.parametrize("quantizer", [pair[0] for pair in PAIRS])
def test_zero_row_stays_zero_under_any_noise_of_the_accumulator(quantizer):
    x, weight = random_matrix(0), random_matrix(1, 23, 11)
    x[3] = 0
    q = quantize_activations(x, 8, quantizer, calibrated_range=(-1.0, 1.0))
    w = quantize_weight(weight, 8, "static_per_channel")
    noisy = q.values.astype(np.int64) @ w.values.astype(np.int64) + 1000
    assert (dequantize_product(noisy, q, w.terms)[3] == 0).all()


def test_reference_mode_turns_the_noise_of_a_zero_row_into_a_value():
    x, weight = random_matrix(0), random_matrix(1, 23, 11)
    x[3] = 0
    q = quantize_activations(x, 8, "dynamic_per_token", constant_rows="reference")
    w = quantize_weight(weight, 8, "static_per_channel", constant_rows="reference")
    product = q.values.astype(np.int64) @ w.values.astype(np.int64)
    assert q.scale[3, 0] == 1
    assert (dequantize_product(product, q, w.terms)[3] == 0).all()
    np.testing.assert_allclose(dequantize_product(product + 19, q, w.terms)[3], 19 * w.scale[0], rtol=1e-6)


def test_constant_weight_columns_come_back_exactly():
    weight = random_matrix(1, 23, 11)
    weight[:, 2], weight[:, 5] = 0, -0.7
    for quantizer in ("static_per_channel", "static_per_tensor", "symmetric_per_channel", "symmetric_per_tensor"):
        back = quantize_weight(weight, 4, quantizer).dequantize()
        assert (back[:, 2] == 0).all()
        assert (back[:, 5] == np.float32(-0.7)).all()


def test_static_range_clamps_what_lies_outside():
    x = np.array([[-5.0, 0.5, 5.0]], dtype=np.float32)
    q = quantize_activations(x, 8, "static_per_tensor", calibrated_range=(-1.0, 1.0))
    np.testing.assert_allclose(q.dequantize(), [[-1.0, 0.5, 1.0]], atol=2 / 255)


def test_an_outlier_ruins_the_others_per_tensor_and_not_per_token():
    x = random_matrix(0, 8, 64)
    x[0, 5] = 1000
    per_token = quantize_activations(x, 8, "dynamic_per_token").dequantize()[1:]
    per_tensor = quantize_activations(x, 8, "dynamic_per_tensor").dequantize()[1:]
    assert np.abs(per_token - x[1:]).max() < 0.05
    assert np.abs(per_tensor - x[1:]).max() > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    x = random_matrix(0)
    x[2, 2] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        quantize_activations(x, 8, "dynamic_per_token")
    with pytest.raises(FloatingPointError, match="not finite"):
        quantize_weight(x, 8, "static_per_channel")


def test_unknown_names_and_missing_calibration_are_refused():
    x = random_matrix(0)
    with pytest.raises(ValueError, match="unknown activation quantizer"):
        quantize_activations(x, 8, "per_galaxy")
    with pytest.raises(ValueError, match="unknown weight quantizer"):
        quantize_weight(x, 8, "per_galaxy")
    with pytest.raises(ValueError, match="calibrat"):
        quantize_activations(x, 8, "static_per_tensor")


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
def test_numbers_do_not_depend_on_threads_or_on_the_width_of_the_product(activations, weights):
    x, weight = random_matrix(0, 301, 257), random_matrix(1, 257, 40)
    x[7], x[9] = 0, 0.3

    def numbers(threads, dtype):
        numba.set_num_threads(threads)
        q, w = quantize_activations(x, 8, activations, calibrated_range=(-2.0, 2.0)), quantize_weight(weight, 8, weights)
        product = q.values.astype(dtype) @ w.values.astype(dtype)
        return q.values, q.scale, q.zero_point, w.values, dequantize_product(product, q, w.terms)

    most = numba.get_num_threads()
    try:
        expected = numbers(1, np.int64)
        for threads, dtype in ((most, np.int64), (most, np.int32), (1, np.int32)):
            for found, value in zip(numbers(threads, dtype), expected, strict=True):
                np.testing.assert_array_equal(found, value)
    finally:
        numba.set_num_threads(most)


def test_a_product_of_32_bits_loses_nothing_to_its_zero_points():
    """The correction alone passes 2^31; its sum with the product is what is scaled."""
    x, weight = np.full((2, 40_000), 3.0, np.float32), np.full((40_000, 2), 5.0, np.float32)
    x[:, 0], weight[0] = 2.9, 4.9
    q, w = quantize_activations(x, 8, "dynamic_per_token"), quantize_weight(weight, 8, "static_per_channel")
    product = q.values.astype(np.int64) @ w.values.astype(np.int64)
    assert np.abs(product).max() < 2**31 <= 40_000 * int(np.abs(q.zero_point * w.zero_point).max())
    np.testing.assert_array_equal(
        dequantize_product(product.astype(np.int32), q, w.terms), dequantize_product(product, q, w.terms)
    )
