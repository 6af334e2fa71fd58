"""What tests of private_lora.crypto compare with and read through."""

import numpy as np

from private_lora.crypto.bits import CHUNK_ROWS, load_tile
from private_lora.crypto.ring import LANES, packed_order

LIMB = 14


def exact_products(columns, factor):
    """Products modulo x^N + 1 by NumPy's real transforms of small limbs (errors below 2^-10), in packed order."""
    size, order = len(factor), packed_order(len(factor))
    rest, natural = np.empty_like(columns), np.empty_like(factor)
    rest[order], natural[order] = columns, factor
    spectrum, total = np.fft.rfft(natural, 2 * size)[:, None], np.zeros((2 * size, columns.shape[1]), np.int64)
    for i in range(4):
        limb = ((rest + 2 ** (LIMB - 1)) & (2**LIMB - 1)) - 2 ** (LIMB - 1) if i < 3 else rest
        rest = (rest - limb) >> LIMB
        product = np.fft.irfft(np.fft.rfft(limb, 2 * size, axis=0) * spectrum, 2 * size, axis=0)
        total += np.rint(product).astype(np.int64) << (LIMB * i)
    return (total[:size] - total[size:])[order]


def loaded(matrix, chunk_rows=CHUNK_ROWS):
    """As decryption loads: a tile at a time, in chunks of rows."""
    out = np.empty((matrix.rows, len(matrix.data) * LANES))
    for tile in range(len(matrix.data)):
        for first in range(0, matrix.rows, chunk_rows):
            rows = min(chunk_rows, matrix.rows - first)
            part = np.full(rows * LANES, np.nan)
            load_tile(matrix.data[tile], rows, matrix.rows, first, matrix.bits, part)
            out[first : first + rows, tile * LANES : (tile + 1) * LANES] = part.reshape(rows, LANES)
    return out
