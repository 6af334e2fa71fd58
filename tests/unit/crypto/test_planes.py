"""The server's product of byte planes against Python's integers, for all kernels."""

import numpy as np
import pytest
import torch
from crypto_reference import loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.crypto import kernels
from private_lora.crypto.kernels import CUDA_ROWS, LARGEST_INPUTS, Int8Product, padded_for_cuda, right_for_cuda
from private_lora.crypto.planes import PlaneProduct, join_digits, weight_digits
from private_lora.crypto.ring import LANES

KERNELS = [name for name, kind in kernels.KERNELS.items() if kernels.is_exact(kind)]


def int8(seed, shape, extreme=False):
    generator = np.random.default_rng(seed)
    return (generator.choice([-128, 127], shape) if extreme else generator.integers(-128, 128, shape)).astype(np.int8)


def tiled(planes):
    """planes x R x K to tiles x planes x R x LANES, with rubbish in the columns that fill up the last tile."""
    count = -(-planes.shape[2] // LANES)
    padded = int8(99, (*planes.shape[:2], count * LANES))
    padded[:, :, : planes.shape[2]] = planes
    return np.ascontiguousarray(padded.reshape(*planes.shape[:2], count, LANES).transpose(2, 0, 1, 3))


def expected_product(planes, weight, modulus_bits, kept_bits):
    """Upper bits, rounded half to even, of (sum planes 256^i) W modulo 2^modulus_bits: no fixed-size integers."""
    values = sum(plane.astype(object) * 256**i for i, plane in enumerate(planes))
    product, step = values @ weight.astype(object), 2 ** (modulus_bits - kept_bits)
    quotient, rest = product // step, product % step
    up = (2 * rest > step) | ((2 * rest == step) & (quotient % 2 == 1))
    return ((quotient + up) % 2**kept_bits).astype(np.int64)


def assert_rounded_right(kernel, planes, weight, modulus_bits, shift):
    """Of planes and of the same in tiles."""
    kept, product = modulus_bits - shift, PlaneProduct(weight, kernel)
    expected = expected_product(planes, weight, modulus_bits, kept)
    for out in (product.rounded(planes, modulus_bits, kept), product.rounded_tiles(tiled(planes), modulus_bits, kept)):
        assert (out.rows, out.columns, out.bits) == (planes.shape[1], weight.shape[1], kept)
        np.testing.assert_array_equal(loaded(out)[:, : weight.shape[1]].astype(np.int64), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40)),
    st.integers(1, 8),
    st.integers(0, 10),
    st.integers(0, 7),
    st.booleans(),
)
@settings(max_examples=40)
def test_products_are_rounded_as_integers_would_be(kernel, seed, shape, count, shift, unused, extreme):
    rows, inputs, outputs = shape
    modulus_bits = 8 * count - unused
    # More than 53 bits leave no room in the float64 that the test reads them into.
    shift = min(max(shift, modulus_bits - 53), modulus_bits - 1)
    planes, weight = int8(seed, (count, rows, inputs), extreme), int8(seed + 1, (inputs, outputs), extreme)
    assert_rounded_right(kernel, planes, weight, modulus_bits, shift)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shift", [1, 2, 3, 8])
def test_halves_go_to_even(kernel, shift):
    # The product with one is the value itself: every residue, so every half, in both directions.
    values = np.arange(-(2**11), 2**11)
    planes = np.stack([((values + 128) % 256) - 128, (values + 128) >> 8]).astype(np.int8)[:, :, None]
    assert_rounded_right(kernel, planes, np.ones((1, 1), np.int8), 16, shift)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(2049, 3, 2), (4103, 2, 3), (9, 33, 513), (2055, 1, 1027)])
def test_the_edges_of_blocks_are_no_different(kernel, rows, inputs, outputs):
    planes, weight = int8(0, (4, rows, inputs)), int8(1, (inputs, outputs))
    assert_rounded_right(kernel, planes, weight, 30, 3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_largest_sums_are_exact(kernel):
    # Sums of 2^30 in each plane, alternating in sign between the planes: 16 bits more than float32 could hold.
    planes = np.full((7, 2, 2**16), -128, np.int8)
    planes[:, 1], weight = 127, np.full((2**16, 2), -128, np.int8)
    weight[:, 1] = 127
    product = sum(256**i for i in range(7)) * 2**16
    expected = [[128 * 128, -128 * 127], [-127 * 128, 127 * 127]]
    out = PlaneProduct(weight, kernel).rounded(planes, 53, 53)
    np.testing.assert_array_equal(loaded(out)[:, :2], [[float(product * e % 2**53) for e in row] for row in expected])


def test_no_sum_of_the_largest_number_of_inputs_passes_int32():
    assert 128 * 128 * LARGEST_INPUTS < 2**31
    assert LARGEST_INPUTS >= 2**16


@pytest.mark.parametrize("kernel", KERNELS)
def test_products_in_a_row_do_not_leak_into_each_other(kernel):
    product, weight = PlaneProduct(int8(1, (40, 9)), kernel), int8(1, (40, 9))
    for seed, rows in enumerate((50, 3, 17)):
        planes = int8(seed, (3, rows, 40))
        for out in (product.rounded(planes, 24, 20), product.rounded_tiles(tiled(planes), 24, 20)):
            np.testing.assert_array_equal(loaded(out)[:, :9], expected_product(planes, weight, 24, 20))


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(2, 3, 5), (2100, 33, 520)])
def test_int8_operations_are_counted(rows, inputs, outputs):
    planes, weight = int8(0, (3, rows, inputs)), int8(1, (inputs, outputs))
    for kernel in KERNELS:
        expected = 0 if kernel == "float64" else 2 * 3 * rows * inputs * outputs
        product = PlaneProduct(weight, kernel)
        product.rounded(planes, 24, 20)
        assert product.int8_operations == expected
        product.rounded_tiles(tiled(planes), 24, 20)
        assert product.int8_operations == 2 * expected


@given(st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40)))
@settings(max_examples=30)
def test_padding_for_cuda_gives_sizes_that_it_takes_and_the_same_product(shape):
    rows, inputs, outputs = shape
    x, weight = torch.from_numpy(int8(0, (rows, inputs))), torch.from_numpy(int8(1, (inputs, outputs)))
    left, right = padded_for_cuda(x, CUDA_ROWS), right_for_cuda(weight)
    # torch._int_mm on CUDA: more than 16 rows, and the other sizes in multiples of 8.
    assert left.shape[0] > 16 and not any(size % 8 for size in (left.shape[1], *right.shape))
    # The left factor row by row, the right one column by column.
    assert left.stride() == (left.shape[1], 1) and right.stride() == (1, right.shape[0])
    assert torch.equal(torch._int_mm(left, right)[:rows, :outputs], x.int() @ weight.int())


@pytest.mark.parametrize(("planes", "rows", "padded"), [(1, 1, 32), (5, 1, 32), (5, 7, 40), (4, 64, 256)])
def test_operations_of_a_gpu_count_padding_once_for_all_planes(planes, rows, padded):
    assert Int8Product(int8(0, (30, 9)), "meta").operations(planes, rows) == 2 * padded * 32 * 16


@pytest.mark.parametrize("bits", range(2, 17))
def test_digits_join_to_the_product_with_the_weight(bits):
    generator = np.random.default_rng(bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weight, x = generator.integers(low, high + 1, (30, 9)), generator.integers(-(2**15), 2**15, (5, 30))
    weight[:, 0], weight[:, 1], weight[:2, 2] = low, high, (high, low)
    digits = weight_digits(weight, bits)
    assert digits.dtype == np.int8
    assert digits.shape == (30, 9 if bits <= 8 else 18)
    product = x @ digits.astype(np.int64)
    joined = product if bits <= 8 else join_digits(product, x.sum(axis=1))
    np.testing.assert_array_equal(joined, x @ weight)


def test_every_16_bit_weight_has_two_signed_digits():
    weight = np.arange(-32768, 32768).reshape(256, 256)
    digits = weight_digits(weight, 16).astype(np.int64)
    np.testing.assert_array_equal(digits[:, :256] + 256 * digits[:, 256:] + 128, weight)
