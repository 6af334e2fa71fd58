"""The server's product of encrypted rows with a clear weight.

A residue is a sum of signed bytes times powers of 256, so a product modulo Q is a few int8 matrix products with exact int32
sums, put together again modulo 2^64 and rounded to the bits that go down.
"""

from __future__ import annotations

import threading

import numba
import numpy as np
import torch

from private_lora.crypto.bits import GROUP, TiledBits, store_rows, tile_count
from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.ring import LANES

# Rows and columns of one block of int32 products; larger blocks only move more memory.
_BLOCK_ROWS, _BLOCK_COLUMNS = 2048, 512
# Planes that one float64 product takes at once: 24-bit values times 8 bits, exact for up to 2^21 inputs.
_FLOAT_PLANES = 3
# On CUDA, torch._int_mm wants more than 16 rows and multiples of 8 in every size.
CUDA_ROWS, _CUDA_MULTIPLE = 24, 8
LARGEST_INPUTS = 2**17 - 1  # int32 sums of products of signed bytes are exact up to here

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

    kernel: `int8`, or `float64` where the CPU has no int8 products; both give the same integers. int8_operations: how many were
    issued so far, two (a multiplication, an addition) for each product of two entries, padding included; none by `float64`.
    """

    def __init__(self, weight: np.ndarray, kernel: str, device: str = "cpu"):
        self.kernel, self.device, self.int8_operations = kernel, device, 0
        self.outputs = weight.shape[1]
        padded = np.zeros((LANES * tile_count(len(weight)), self.outputs), np.int8)
        padded[: len(weight)] = weight
        dtype = torch.int8 if kernel == "int8" else torch.float64
        blocks = range(0, self.outputs, _BLOCK_COLUMNS)
        self._blocks = [self._prepared(torch.from_numpy(padded[:, c : c + _BLOCK_COLUMNS].copy()), dtype) for c in blocks]

    def _prepared(self, block: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        block = block.to(self.device, dtype)
        return block if self.device == "cpu" else padded_for_cuda(block)

    def rounded(self, tiles: np.ndarray, modulus_bits: int, kept_bits: int) -> TiledBits:
        """The `kept_bits` upper bits, rounded half to even, of (sum_i planes[i] 256^i) W modulo 2^modulus_bits, R x D.

        tiles: int8, tiles x planes x R x LANES, of the R x K matrix on the left.
        """
        rows = tiles.shape[2]
        out = TiledBits.empty(rows, self.outputs, kept_bits)
        for top in range(0, rows, _BLOCK_ROWS):
            part = _rows_of_planes(tiles[:, :, top : top + _BLOCK_ROWS]).to(self.device)
            for i, block in enumerate(self._blocks):
                left = i * _BLOCK_COLUMNS
                products, step = self._products(part, block)
                arguments = products.cpu().numpy(), step, modulus_bits - kept_bits, kept_bits, rows, top, left
                width = min(_BLOCK_COLUMNS, self.outputs - left)
                in_ranges(_put_together, part.shape[1], *arguments, width, out.data, block=GROUP)
        return out

    def _products(self, planes: torch.Tensor, block: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Integer products of digits, digits x R x D, and the bits that separate neighbouring digits."""
        if self.kernel == "float64":
            digits = [_joined(planes[i : i + _FLOAT_PLANES]) @ block for i in range(0, len(planes), _FLOAT_PLANES)]
            return torch.stack(digits).to(torch.int64), 8 * _FLOAT_PLANES
        rows, width = planes.shape[1], block.shape[1]
        if self.device != "cpu":
            padded = [padded_for_cuda(plane, CUDA_ROWS) for plane in planes]
            self.int8_operations += 2 * len(padded) * padded[0].numel() * width
            return torch.stack([torch._int_mm(plane, block)[:rows] for plane in padded]), 8
        self.int8_operations += 2 * planes.numel() * width
        products = _workspace("products", len(planes) * rows * width, np.int32).reshape(len(planes), rows, width)
        products = torch.from_numpy(products)
        for plane, product in zip(planes, products, strict=True):
            torch._int_mm(plane, block, out=product)
        return products, 8


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


def _joined(planes: torch.Tensor) -> torch.Tensor:
    """float64 value of up to three byte planes."""
    return sum(plane.to(torch.float64) * 256.0**i for i, plane in enumerate(planes))


def padded_for_cuda(matrix: torch.Tensor, least_rows: int = 0) -> torch.Tensor:
    """The matrix with zeros up to sizes that `torch._int_mm` takes on CUDA: multiples of 8; `least_rows` for a left factor."""
    rows, columns = (-(-size // _CUDA_MULTIPLE) * _CUDA_MULTIPLE for size in matrix.shape)
    padded = matrix.new_zeros((max(rows, least_rows), columns))
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded


@numba.njit(nogil=True, cache=True)
def _put_together(start, stop, products, step, shift, bits, total_rows, top, left, width, data):
    """Rows start..stop-1: digits to one number modulo 2^64, rounded by `shift` bits half to even, packed at (top, left)."""
    group = np.empty((GROUP, width), np.int64)
    middle, low_bits = (np.int64(1) << shift) >> 1, (np.int64(1) << shift) - 1
    for first in range(start, stop, GROUP):
        rows = min(GROUP, stop - first)
        for row in range(rows):
            values = group[row]
            values[:] = products[products.shape[0] - 1, first + row, :width]
            for digit in range(products.shape[0] - 2, -1, -1):
                source = products[digit, first + row, :width]
                for i in range(width):
                    values[i] = (values[i] << step) + source[i]
            for i in range(width):
                quotient = values[i] >> shift
                values[i] = quotient + np.int64((values[i] & low_bits) + (quotient & low_bits & 1) > middle)
        store_rows(group, rows, top + first, bits, total_rows, left, data)
