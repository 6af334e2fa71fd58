"""Floating-point products at their worst inputs, at every size that is transformed: how far from 1/2 the error stays.

What is multiplied is a mask of AES output. Up to `exact_bits` it is multiplied at once, which is exact for such inputs and not
for all; wider ones are cut at 32 bits, which is exact for all.
"""

import numpy as np
import pytest
from crypto_reference import exact_products

from private_lora.crypto.pads import EXACT_BITS, SLOTS, _multiply_add
from private_lora.crypto.ring import LANES, exact_bits, forward, inverse, packed_order, roots, transform

SIZES = [SLOTS, 1024, 2048, 4096, 8192]
PART_BITS = 32


def widest(size):
    """Bits of a mask that is multiplied at once."""
    return EXACT_BITS if size == SLOTS else exact_bits(size)


def factors(size):
    """Ternary polynomials: the largest sums, alternating signs, a single power, a quadratic chirp (a flat spectrum), random."""
    order, random = packed_order(size), np.random.default_rng(size)
    return {
        "ones": np.ones(size, np.int64),
        "alternating": 1 - 2 * (order % 2),
        "power": (order == size - 1).astype(np.int64),
        "chirp": np.sign(np.cos(np.pi * order.astype(float) ** 2 / size)).astype(np.int64),
        "random": random.integers(-1, 2, size),
    }


def worst_columns(size, bits):
    """LANES polynomials of `bits` signed bits: all of one value, alternating, impulses, waves, chirps, random signs."""
    order, high, random = packed_order(size), 2 ** (bits - 1), np.random.default_rng(size)
    columns = [
        np.full(size, high - 1),
        np.full(size, -high),
        np.where(order % 2, high - 1, -high),
        np.where(order == 0, -high, 0),
        np.where(order == size - 1, high - 1, 0),
        *(np.rint((high - 1) * np.cos(np.pi * k * (order + 0.5) / size)) for k in (1, 3, size // 2 - 1, size - 1)),
        *(np.rint((high - 1) * np.cos(np.pi * k * order.astype(float) ** 2 / size)) for k in (1, 3)),
        *(np.where(random.integers(0, 2, size), high - 1, -high) for _ in range(4)),
    ]
    rest = [random.integers(-high, high, size) for _ in range(LANES - len(columns))]
    return np.stack([*columns, *rest], axis=1).astype(np.int64)


def float_error(columns, factor, size):
    """What the kernels' sum of r products is away from the integers, before rounding: size x LANES, from r size of each."""
    spectra = transform(factor.reshape(-1, size)) * (2.0 / size)
    total, constants, exact = np.empty(size * LANES), roots(size), 0
    for i in range(len(factor) // size):
        part = slice(i * size, (i + 1) * size)
        block = columns[part].astype(np.float64).ravel()
        forward(block, *constants)
        _multiply_add(block, spectra[i], i == 0, total)
        exact = exact + exact_products(columns[part], factor[part])
    inverse(total, *constants)
    return np.abs(total.reshape(size, LANES) - exact)


@pytest.mark.parametrize("size", SIZES)
def test_any_input_of_one_part_is_exact_with_room(size):
    for name, factor in factors(size).items():
        assert float_error(worst_columns(size, PART_BITS), factor, size).max() < 1 / 32, name


@pytest.mark.parametrize("rank", [2, 4, 8, 16])
def test_sums_of_a_module_are_exact_with_room(rank):
    for name, factor in factors(SLOTS).items():
        columns = np.tile(worst_columns(SLOTS, PART_BITS), (rank, 1))
        assert float_error(columns, np.tile(factor, rank), SLOTS).max() < 1 / 32, name


@pytest.mark.parametrize("size", SIZES)
def test_a_random_mask_is_exact_at_once_whatever_the_secret(size):
    random, high = np.random.default_rng(size), 2 ** (widest(size) - 1)
    columns = random.integers(-high, high, (size, LANES))
    for name, factor in factors(size).items():
        assert float_error(columns, factor, size).max() < 1 / 4, name


@pytest.mark.parametrize("size", SIZES)
def test_the_worst_inputs_would_be_wrong_at_once(size):
    """So the measure can fail, and the cut at 32 bits is needed for what is not random."""
    errors = float_error(worst_columns(size, widest(size)), factors(size)["ones"], size)
    assert errors.max() > 1 / 2
