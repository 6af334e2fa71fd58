"""Exact products of signed bytes with an int8 weight: several ways to compute them, and which one this CPU should use.

A way is used only after it has multiplied extreme values exactly: some int8 paths of CPUs without VNNI saturate silently.
"""

from __future__ import annotations

import itertools
import logging
import time
from functools import cache

import numpy as np
import torch

from private_lora.core.errors import UserError

log = logging.getLogger(__name__)
# On CUDA, torch._int_mm wants more than 16 rows and multiples of 8 in the other sizes; fewer rows are filled up to 32, as in
# torch's own remedy (pytorch pull request 178469).
CUDA_ROWS, _CUDA_MULTIPLE = 32, 8
LARGEST_INPUTS = 2**17 - 1  # int32 sums of products of signed bytes are exact up to here
_FLOAT32_LIMIT = 2**24  # below it, every integer is a float32
_LARGEST_DIGIT = 128
_LARGEST_UNSIGNED = 255
_CUT_ROWS = 64  # pieces begin at multiples of it: so many rows of weights of 8 bits never reach the limit by themselves
_FLOAT_PLANES = 3
# oneDNN has code of its own for few rows.
_TESTED_ROWS = (3, 48)
# The start-up test: (planes, rows, inputs, outputs) of a batch and of a single token, and repeats.
_TIMED, _REPEATS = ((5, 128, 2048, 1024), (5, 1, 2048, 8192)), 3
# What is so many times slower than float64 at a small product is not timed at those: without int8 units it takes a minute.
_SMALL, _HOPELESS = (5, 32, 512, 512), 4.0


class Int8Product:
    """`torch._int_mm`: int32 sums, on a CPU through oneDNN, on CUDA through tensor cores."""

    name = "int8"
    step = 8
    """Bits between neighbouring digits of the products."""

    def __init__(self, weight: np.ndarray, device: str = "cpu"):
        self.device, self._outputs = device, weight.shape[1]
        # A copy: a block of a larger weight is no contiguous memory.
        block = torch.from_numpy(weight.copy()).to(device)
        self._weight = block if device == "cpu" else right_for_cuda(block)

    def operations(self, planes: int, rows: int) -> int:
        """Multiplications and additions of int8 that a product issues, padding included."""
        rows *= planes
        if self.device != "cpu":
            rows = max(-(-rows // _CUDA_MULTIPLE) * _CUDA_MULTIPLE, CUDA_ROWS)
        return 2 * rows * self._weight.numel()

    def work_bytes(self, planes: int, rows: int) -> int:
        """Most bytes of memory that a product takes besides its operands; its result is a part of it."""
        # The planes as one matrix, and in oneDNN's own order; int32 products, and their stack.
        return planes * rows * (2 * self._weight.shape[0] + 8 * self._weight.shape[1])

    def __call__(self, planes: torch.Tensor) -> tuple[np.ndarray, ...]:
        """Matrices (digits x R x D) whose sum is the product of each byte plane (int8, P x R x K) with the weight."""
        rows = planes.flatten(0, 1)
        if self.device == "cpu":
            return (torch._int_mm(rows, self._weight).view(*planes.shape[:2], -1).numpy(),)
        # Memory that is not pinned is free again when a copy of it returns, and the copy back waits for the product.
        left = padded_for_cuda(rows.to(self.device), CUDA_ROWS)
        product = torch._int_mm(left, self._weight)[: len(rows), : self._outputs].cpu()
        return (product.reshape(*planes.shape[:2], -1).numpy(),)


class PrepackedProduct:
    """oneDNN's product of unsigned bytes with a weight that it packed once: uses AMX, and reads few rows' weight once.

    It returns float32, so the inputs are cut into pieces whose sums, by the norms of the weight's columns, stay below 2^24:
    sums of the unsigned bytes, which AMX kernels turn into float32 before they take the zero point's share away.
    """

    name = "prepacked"
    step = 8

    def __init__(self, weight: np.ndarray, device: str = "cpu"):
        outputs = weight.shape[1]
        cuts = _exact_cuts(weight)
        self._parts = [slice(first, last) for first, last in zip([0, *cuts[:-1]], cuts, strict=True)]
        self._weights = [_prepacked(weight[part]) for part in self._parts]
        self._scale, self._zero = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
        self._size, self._shape = weight.size, weight.shape

    def operations(self, planes: int, rows: int) -> int:
        """As of Int8Product."""
        return 2 * planes * rows * self._size

    def work_bytes(self, planes: int, rows: int) -> int:
        """As of Int8Product: the planes as one matrix, unsigned, and in oneDNN's own order; float32 products of each piece."""
        inputs, outputs = self._shape
        return planes * rows * (3 * inputs + 4 * (len(self._parts) + 1) * outputs)

    def __call__(self, planes: torch.Tensor) -> tuple[np.ndarray, ...]:
        """As of Int8Product."""
        rows = planes.flatten(0, 1).view(torch.uint8)
        products = (self._multiply(rows[:, p], w) for p, w in zip(self._parts, self._weights, strict=True))
        return tuple(product.view(*planes.shape[:2], -1).numpy() for product in products)

    def _multiply(self, digits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        unsigned = digits.bitwise_xor(_LARGEST_DIGIT)  # with 128 for zero
        arguments = 1.0, _LARGEST_DIGIT, weight, self._scale, self._zero, None, 1.0, 0, torch.float32, "none", [], ""
        return torch.ops.onednn.qlinear_pointwise(unsigned, *arguments)


class Float64Product:
    """float64, three planes at once: 24-bit values times 8 bits, exact for up to 2^21 inputs, on any CPU."""

    name = "float64"
    step = 24

    def __init__(self, weight: np.ndarray, device: str = "cpu"):
        self._weight = torch.from_numpy(weight.astype(np.float64))

    def operations(self, planes: int, rows: int) -> int:
        """None: nothing is multiplied as int8."""
        return 0

    def work_bytes(self, planes: int, rows: int) -> int:
        """As of Int8Product: float64 of a plane, scaled and summed up; products, and their stack."""
        inputs, outputs = self._weight.shape
        return rows * (32 * inputs + 16 * -(-planes // _FLOAT_PLANES) * outputs)

    def __call__(self, planes: torch.Tensor) -> tuple[np.ndarray, ...]:
        """As of Int8Product, with a digit for each three planes."""
        joined = [_joined(planes[i : i + _FLOAT_PLANES]) @ self._weight for i in range(0, len(planes), _FLOAT_PLANES)]
        return (torch.stack(joined).numpy(),)


def _joined(planes: torch.Tensor) -> torch.Tensor:
    """float64 value of up to three byte planes."""
    return sum(plane.to(torch.float64) * 256.0**i for i, plane in enumerate(planes))


KERNELS = {kind.name: kind for kind in (PrepackedProduct, Int8Product, Float64Product)}


def _exact_cuts(weight: np.ndarray) -> list[int]:
    """Where to end each piece of inputs, so that no sum of unsigned bytes times weights reaches 2^24; the last end is K."""
    most, cuts, sums = (_FLOAT32_LIMIT - 1) // _LARGEST_UNSIGNED, [], 0
    for first in range(0, len(weight), _CUT_ROWS):
        added = np.abs(weight[first : first + _CUT_ROWS].astype(np.int16)).sum(axis=0, dtype=np.int32)
        if (sums + added).max() > most:
            cuts.append(first)
            sums = 0
        sums = sums + added
    return [*cuts, len(weight)]


def _prepacked(piece: np.ndarray) -> torch.Tensor:
    return torch.ops.onednn.qlinear_prepack(torch.from_numpy(np.ascontiguousarray(piece.T)), None)


def padded_for_cuda(matrix: torch.Tensor, least_rows: int = 0) -> torch.Tensor:
    """The matrix with zeros up to sizes that `torch._int_mm` takes on CUDA: multiples of 8; `least_rows` for a left factor."""
    rows, columns = (-(-size // _CUDA_MULTIPLE) * _CUDA_MULTIPLE for size in matrix.shape)
    padded = matrix.new_zeros((max(rows, least_rows), columns))
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded


def right_for_cuda(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix as a right factor of `torch._int_mm` on CUDA: padded, and in memory column by column.

    So cuBLAS multiplies int8 on every GPU with tensor cores for it; a factor in rows, on some only (pytorch issue 169956).
    """
    return padded_for_cuda(matrix.T).T


@cache
def gpu_kernel(device: str = "cuda") -> str:
    """Name of the kernel for a GPU; UserError where it is not exact: a release of cuBLAS was not (pytorch issue 107671)."""
    if not is_exact(Int8Product, device):
        raise UserError(
            f"torch._int_mm on device {device!r} does not multiply extreme bytes exactly: take another version of torch and "
            "CUDA, or device cpu"
        )
    return Int8Product.name


@cache
def fastest_kernel() -> str:
    """Name of the kernel that is exact on extreme values here and fastest on a batch and on a single token; logged once."""
    float64 = KERNELS["float64"]
    most = _HOPELESS * _seconds(float64, *_SMALL)
    kinds = [kind for name, kind in KERNELS.items() if name != "float64" and is_exact(kind) and _seconds(kind, *_SMALL) < most]
    times = {kind.name: _timed(kind) for kind in (*kinds, float64)}
    least = [min(values) for values in zip(*times.values(), strict=True)]
    name = min(times, key=lambda n: sum(t / best for t, best in zip(times[n], least, strict=True)))
    log.info("int8 products: %s", "none that is exact and fast on this CPU, float64 instead" if name == "float64" else name)
    return name


def is_exact(kind: type, device: str = "cpu") -> bool:
    """Whether a kernel multiplies extreme digits and weights to the very integers: saturating and rounded sums show there."""
    extremes = ((-128, -128), (-128, 127), (127, 127), (127, -128))
    cases = itertools.product(_TESTED_ROWS, (1, 63, 2048, 5000), extremes)
    try:
        return all(_is_exact(kind, device, rows, inputs, *extreme) for rows, inputs, extreme in cases)
    except (RuntimeError, AttributeError, AssertionError):  # this build of torch does not have it, or no such device
        return False


def _is_exact(kind: type, device: str, rows: int, inputs: int, digit: int, entry: int) -> bool:
    planes, weight = np.full((1, rows, inputs), digit, np.int8), np.full((inputs, 33), entry, np.int8)
    planes[0, 1::3, ::2], weight[:, 1::2] = -1 - digit, -1 - entry
    planes[0, 2::3, 0] = 0  # odd sums of odd products, whose last bit is the first that rounding loses
    truth = planes.astype(np.int64) @ weight.astype(np.int64)
    pieces = kind(weight, device)(torch.from_numpy(planes))
    return np.array_equal(sum(piece.astype(np.int64) for piece in pieces), truth)


def _timed(kind: type) -> list[float]:
    """Least seconds of a product of each shape of _TIMED."""
    return [_seconds(kind, *shape) for shape in _TIMED]


def _seconds(kind: type, planes: int, rows: int, inputs: int, outputs: int) -> float:
    """Least seconds of a product of this shape."""
    product = kind(np.ones((inputs, outputs), np.int8))
    digits = torch.ones((planes, rows, inputs), dtype=torch.int8)
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        product(digits)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
