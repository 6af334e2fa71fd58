"""What a device can do at most, measured in this process: int8 products of large squares, and copies of large tensors."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import torch

from private_lora.bench.plaintext import synchronize
from private_lora.crypto.kernels import right_for_cuda

SMALLEST_SIDE = 512
LARGEST_SIDE = {"cpu": 4096, "cuda": 8192}
LONGEST_S = 1.0  # of one product
# Many times what caches hold.
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30}
REPEATS = 5


@functools.cache
def int8_ceiling(device: str) -> float:
    """Operations per second of `torch._int_mm` on a square product: 2 n^3 over the median time.

    n: the largest power of two up to LARGEST_SIDE whose product should not take longer than LONGEST_S, because a CPU without
    int8 products is a thousand times slower than a GPU.
    """
    side = SMALLEST_SIDE
    seconds = _square_seconds(side, device)
    while side < LARGEST_SIDE[device] and 8 * seconds <= LONGEST_S:
        side *= 2
        seconds = _square_seconds(side, device)
    return 2 * side**3 / seconds


@functools.cache
def copy_ceiling(device: str) -> float:
    """Bytes read and written per second by a copy of a large tensor: twice its size over the median time."""
    source = torch.ones(COPIED_BYTES[device] // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    return 2 * COPIED_BYTES[device] / _median_seconds(lambda: target.copy_(source), device)


def _square_seconds(side: int, device: str) -> float:
    left, right = (torch.randint(-128, 128, (side, side), dtype=torch.int8, device=device) for _ in range(2))
    if device != "cpu":
        right = right_for_cuda(right)  # as the products that are compared with it
    return _median_seconds(lambda: torch._int_mm(left, right), device)


def _median_seconds(work: Callable[[], object], device: str) -> float:
    """Seconds of one call: the median of REPEATS after one that is not counted."""
    seconds = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
