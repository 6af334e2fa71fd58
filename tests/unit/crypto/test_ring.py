"""Products modulo x^N + 1 through floating-point transforms against exact integers."""

import numpy as np
import pytest
from crypto_reference import exact_products
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.crypto.ring import (
    LANES,
    exact_bits,
    forward,
    inverse,
    multiply,
    negacyclic_products,
    packed_order,
    roots,
    transform,
)

SIZES = [1024, 2048, 4096, 8192]


def schoolbook(columns, factor):
    """x^i times the columns, summed over i: in natural order."""
    total = np.zeros_like(columns)
    for power, sign in enumerate(factor):
        if sign:
            shifted = np.roll(columns, power, axis=0)
            shifted[:power] *= -1
            total += sign * shifted
    return total


def float_products(columns, factor):
    """What the kernels give before rounding: N x LANES."""
    block = columns.astype(np.float64).ravel()
    constants = roots(len(factor))
    forward(block, *constants)
    multiply(block, transform(factor[None])[0], block)
    inverse(block, *constants)
    return block.reshape(columns.shape)


def ternary(seed, size):
    return np.random.default_rng(seed).integers(-1, 2, size)


def uniform(seed, size, columns):
    bits = exact_bits(size)
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (size, columns))


@pytest.mark.parametrize("size", SIZES)
def test_products_are_those_of_the_schoolbook(size):
    order, columns, factor = packed_order(size), uniform(0, size, 2), ternary(1, size)
    natural, natural_factor = np.empty_like(columns), np.empty_like(factor)
    natural[order], natural_factor[order] = columns, factor
    expected = schoolbook(natural, natural_factor)[order]
    np.testing.assert_array_equal(exact_products(columns, factor), expected)
    np.testing.assert_array_equal(negacyclic_products(columns, factor), expected)


def test_the_packed_order_alternates_between_the_halves():
    np.testing.assert_array_equal(packed_order(8), [0, 4, 1, 5, 2, 6, 3, 7])


@pytest.mark.parametrize("size", SIZES)
def test_x_times_the_highest_power_is_minus_one(size):
    order = packed_order(size)
    factor, columns = (order == 1).astype(np.int64), (order == size - 1).astype(np.int64)[:, None]
    np.testing.assert_array_equal(negacyclic_products(columns, factor)[:, 0], -(order == 0).astype(np.int64))


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.sampled_from(SIZES[:2]))
@settings(max_examples=15)
def test_any_number_of_columns_is_multiplied_exactly(seed, count, size):
    columns, factor = uniform(seed, size, count), ternary(seed + 1, size)
    np.testing.assert_array_equal(negacyclic_products(columns, factor), exact_products(columns, factor))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extreme", ["max", "min", "signs"])
def test_extreme_coefficients_are_multiplied_exactly(size, extreme):
    # All coefficients and all secrets alike make the largest sums there are; masks wider than 32 bits never do.
    high = 2**31 - 1
    signs = np.random.default_rng(0).integers(0, 2, (size, 3))
    columns = {"max": np.full((size, 3), high), "min": np.full((size, 3), -high - 1), "signs": np.where(signs, high, -high - 1)}
    for factor in (np.ones(size, np.int64), -np.ones(size, np.int64), ternary(1, size)):
        np.testing.assert_array_equal(
            negacyclic_products(columns[extreme], factor), exact_products(columns[extreme], factor), err_msg=extreme
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("secret", ["random", "all one"])
def test_the_float_error_leaves_room_before_rounding(size, secret):
    factor = ternary(3, size) if secret == "random" else np.ones(size, np.int64)
    for seed in range(2):
        columns = uniform(seed, size, LANES)
        error = float_products(columns, factor) - exact_products(columns, factor)
        assert np.abs(error).max() < 1 / 4
        assert error.std() < 1 / 25


@pytest.mark.parametrize("size", SIZES)
def test_the_inverse_undoes_the_transform(size):
    values = np.random.default_rng(size).standard_normal(size * LANES)
    block = values.copy()
    forward(block, *roots(size))
    assert np.abs(block - values).max() > 1
    inverse(block, *roots(size))
    np.testing.assert_allclose(block / (size // 2), values, atol=1e-12)


@pytest.mark.parametrize("size", SIZES[:2])
def test_transformed_values_are_those_at_the_roots_of_the_ring(size):
    polynomial = ternary(5, size).astype(np.float64)
    natural = np.empty(size)
    natural[packed_order(size)] = polynomial
    # Values at exp(i pi (2k+1) / N), k = 0 .. N-1, come in conjugate pairs; the splitting computes one of each pair.
    everywhere = np.fft.fft(natural * np.exp(1j * np.pi * np.arange(size) / size))
    values = transform(polynomial[None])[0] @ [1, 1j]
    distance = np.abs(values[:, None] - everywhere)
    assert distance.min(axis=1).max() < 1e-9
    assert len(set(distance.argmin(axis=1))) == size // 2


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_polynomials_transform_alone_as_they_do_together(count):
    polynomials = np.stack([ternary(i, 1024) for i in range(count)]).astype(np.int8)
    together = transform(polynomials)
    assert together.shape == (count, 512, 2)
    for i in {0, count // 2, count - 1}:
        np.testing.assert_array_equal(together[i], transform(polynomials[i : i + 1])[0])
