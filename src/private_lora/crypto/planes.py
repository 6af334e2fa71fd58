"""The server's product of encrypted rows with a clear weight.

A residue is a sum of signed bytes times powers of 256, so a product modulo Q is a few int8 matrix products with exact int32
sums, put together again modulo 2^64 and rounded to the bits that go down.
"""

from __future__ import annotations

import threading

import numba
import numpy as np
import torch

from private_lora.crypto.bits import GROUP, TiledBits, store_rows
from private_lora.crypto.kernels import KERNELS
from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.ring import LANES

# Rows, over all planes, and columns of one block of products: it stays in the caches until it is put together.
_BLOCK_ROWS, _BLOCK_COLUMNS = 2560, 2048

DIGIT_OFFSET = 128

_OF_THREAD = threading.local()


def weight_digits(weight: np.ndarray, bits: int) -> np.ndarray:
    """The weight (K x D) as int8; of more than 8 bits as two digits side by side, K x 2D.

    weight = low + 256 high + DIGIT_OFFSET: without the offset, the largest 16-bit integers have no two signed digits.
    """
    if bits <= 8:
        return np.ascontiguousarray(weight, dtype=np.int8)
    wide = weight.astype(np.int32)
    return np.concatenate([(wide & 255) - DIGIT_OFFSET, wide >> 8], axis=1).astype(np.int8)


def join_digits(product: np.ndarray, row_sums: np.ndarray) -> np.ndarray:
    """T x D product with the weight from the T x 2D product with its digits, and the row sums of what was multiplied."""
    half = product.shape[1] // 2
    return product[:, :half] + 256 * product[:, half:] + DIGIT_OFFSET * row_sums[:, None]


class PlaneProduct:
    """Products of byte planes with one int8 weight (K x D), on one device.

    kernel: one of `kernels.KERNELS`; all give the same integers. int8_operations: how many were issued so far, two (a
    multiplication, an addition) for each product of two entries.
    """

    def __init__(self, weight: np.ndarray, kernel: str, device: str = "cpu"):
        self.kernel, self.int8_operations, self._device = kernel, 0, device
        self.inputs, self.outputs = weight.shape
        blocks = range(0, self.outputs, _BLOCK_COLUMNS)
        self._blocks = [KERNELS[kernel](weight[:, c : c + _BLOCK_COLUMNS], device) for c in blocks]

    def rounded(self, planes: np.ndarray, modulus_bits: int, kept_bits: int) -> TiledBits:
        """The `kept_bits` upper bits, rounded half to even, of (sum_i planes[i] 256^i) W modulo 2^modulus_bits, R x D.

        planes: int8, P x R x K.
        """
        count, rows = planes.shape[:2]
        out = TiledBits.empty(rows, self.outputs, kept_bits)
        height = _height(count)
        for top in range(0, rows, height):
            self._multiply(torch.from_numpy(planes[:, top : top + height]), modulus_bits - kept_bits, top, out)
        return out

    def rounded_tiles(self, tiles: np.ndarray, modulus_bits: int, kept_bits: int) -> TiledBits:
        """The same of tiles (int8, tiles x planes x R x LANES) that hold the matrix on the left."""
        _, count, rows, _ = tiles.shape
        out = TiledBits.empty(rows, self.outputs, kept_bits)
        height = _height(count)
        for top in range(0, rows, height):
            planes = _rows_of_planes(tiles[:, :, top : top + height])
            self._multiply(planes[:, :, : self.inputs], modulus_bits - kept_bits, top, out)
        return out

    def work_bytes(self, planes: int, rows: int) -> int:
        """Bytes of memory that a product takes besides its operands and its result, at most."""
        rows = min(rows, _height(planes))
        side_by_side = planes * rows * (self.inputs + LANES)
        # A block's product is there until the next one's is.
        return side_by_side + 2 * max(block.work_bytes(planes, rows) for block in self._blocks)

    def _multiply(self, planes: torch.Tensor, shift: int, top: int, out: TiledBits) -> None:
        """Store the rounded products of these rows from row `top` on."""
        count, rows, _ = planes.shape
        planes = planes.to(self._device)  # once for all blocks
        for i, block in enumerate(self._blocks):
            products = block(planes)
            self.int8_operations += block.operations(count, rows)
            left, width = i * _BLOCK_COLUMNS, products[0].shape[2]
            arguments = products, block.step, shift, out.bits, out.rows, top, left, width, out.data
            in_ranges(_put_together, rows, *arguments, block=GROUP)


def _height(planes: int) -> int:
    """Rows of each of so many planes that are multiplied at once."""
    return max(GROUP, _BLOCK_ROWS // planes // GROUP * GROUP)


def _rows_of_planes(tiles: np.ndarray) -> torch.Tensor:
    """Byte planes of all tiles side by side, planes x R x K, K filled up to whole tiles."""
    count, planes, rows, _ = tiles.shape
    side_by_side = torch.from_numpy(_workspace("planes", tiles.size, np.int8)).view(planes, rows, count, LANES)
    side_by_side.copy_(torch.from_numpy(tiles).permute(1, 2, 0, 3))
    return side_by_side.view(planes, rows, count * LANES)


def _workspace(name: str, count: int, dtype) -> np.ndarray:
    """`count` numbers of this thread's own, kept between products: fresh memory for each would cost as much as the product."""
    kept = vars(_OF_THREAD)
    if name not in kept or len(kept[name]) < count:
        kept[name] = np.empty(count, dtype)
    return kept[name][:count]


@numba.njit(nogil=True, cache=True)
def _put_together(start, stop, products, step, shift, bits, total_rows, top, left, width, data):
    """Rows start..stop-1: digits to one number modulo 2^64, rounded by `shift` bits half to even, packed at (top, left)."""
    group = np.empty((GROUP, width), np.int64)
    middle, low_bits = (np.int64(1) << shift) >> 1, (np.int64(1) << shift) - 1
    for first in range(start, stop, GROUP):
        rows = min(GROUP, stop - first)
        for row in range(rows):
            values = group[row]
            values[:] = 0
            for digit in range(products[0].shape[0] - 1, -1, -1):
                source = products[0][digit, first + row, :width]
                for i in range(width):
                    values[i] = (values[i] << step) + np.int64(source[i])
                for piece in range(1, len(products)):
                    source = products[piece][digit, first + row, :width]
                    for i in range(width):
                        values[i] += np.int64(source[i])
            for i in range(width):
                quotient = values[i] >> shift
                values[i] = quotient + np.int64((values[i] & low_bits) + (quotient & low_bits & 1) > middle)
        store_rows(group, rows, top + first, bits, total_rows, left, data)
