"""Packed bits: whatever goes in comes out, in exactly the stated number of bytes."""

import numpy as np
import pytest
from crypto_reference import loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.crypto.bits import GROUP, TiledBits, store_rows, tile_bytes, tile_count
from private_lora.crypto.ring import LANES


def stored(values, bits, block_columns=512):
    """As the server's product stores: groups of rows, blocks of columns. The room holds garbage before."""
    rows, columns = values.shape
    out = TiledBits.empty(rows, columns, bits)
    out.data[:] = 0xA5
    for left in range(0, columns, block_columns):
        for first in range(0, rows, GROUP):
            group = np.full((GROUP, min(block_columns, columns - left)), -1, np.int64)
            part = values[first : first + GROUP, left : left + block_columns]
            group[: len(part)] = part
            store_rows(group, len(part), first, bits, rows, left, out.data)
    return out


def unsigned(seed, rows, columns, bits):
    values = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns))
    values.flat[0], values.flat[-1] = 2**bits - 1, 2**bits - 1
    return values


def assert_round_trip(values, bits, **blocks):
    rows, columns = values.shape
    matrix = stored(values, bits, **blocks)
    again = TiledBits.from_bytes(memoryview(matrix.data.tobytes()), rows, columns, bits)
    np.testing.assert_array_equal(loaded(again)[:, :columns], values)
    assert not loaded(again)[:, columns:].any()
    assert matrix.data.nbytes == tile_count(columns) * tile_bytes(rows, bits)


@pytest.mark.parametrize("bits", range(1, 49))
@pytest.mark.parametrize("rows", [1, 7, 9, 64, 73])
def test_values_survive_for_every_number_of_bits(bits, rows):
    for columns in (1, 31, 33):
        assert_round_trip(unsigned(bits, rows, columns, bits), bits)


@pytest.mark.parametrize("bits", [1, 3, 7, 19, 25, 31, 47])
def test_many_odd_rows_survive(bits):
    assert_round_trip(unsigned(bits, 2049, 33, bits), bits)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 100), st.integers(1, 48), st.sampled_from([32, 64, 512]))
@settings(max_examples=60)
def test_values_survive_in_any_shape_and_block(seed, rows, columns, bits, block_columns):
    assert_round_trip(unsigned(seed, rows, columns, bits), bits, block_columns=block_columns)


def test_only_the_low_bits_of_signed_values_are_kept():
    values = np.random.default_rng(0).integers(-(2**62), 2**62, (9, 33))
    np.testing.assert_array_equal(loaded(stored(values, 27))[:, :33], values % 2**27)


@pytest.mark.parametrize(("rows", "bits", "expected"), [(8, 1, 1), (9, 1, 2), (1, 47, 8), (8, 47, 47), (1, 48, 6), (3, 12, 5)])
def test_a_lane_takes_whole_bytes_for_each_field(rows, bits, expected):
    # 47 bits are five bytes and fields of 4, 2 and 1: one row shares each of those with nobody.
    assert tile_bytes(rows, bits) == expected * LANES


@given(st.integers(1, 4096), st.integers(1, 62))
def test_sizes_are_that_of_the_bits_alone_up_to_three_bytes(rows, bits):
    assert 0 <= tile_bytes(rows, bits) - rows * bits * LANES / 8 < 3 * LANES


@pytest.mark.parametrize("change", [-1, 1, LANES, -LANES])
def test_bytes_of_another_length_are_refused(change):
    length = tile_count(33) * tile_bytes(7, 27)
    TiledBits.from_bytes(memoryview(bytes(length)), 7, 33, 27)
    with pytest.raises(ValueError, match=f"{length + change} bytes are no 7 x 33 values of 27 bits"):
        TiledBits.from_bytes(memoryview(bytes(length + change)), 7, 33, 27)
