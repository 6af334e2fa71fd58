"""Ranges of rows or columns on all threads: kernels release the interpreter lock, so no second OpenMP pool beside torch's."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

import numba


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="crypto")


def in_ranges(kernel, count: int, *arguments, block: int = 1) -> None:
    """kernel(start, stop, *arguments) over ranges that cover `count` in whole blocks, one range per thread.

    Threads: numba's number (NUMBA_NUM_THREADS, by default all cores).
    """
    blocks = -(-count // block)
    threads = max(1, min(numba.get_num_threads(), blocks))
    edges = [min(count, block * (blocks * i // threads)) for i in range(threads)] + [count]
    ranges = list(itertools.pairwise(edges))
    waiting = [_pool(numba.get_num_threads()).submit(kernel, *r, *arguments) for r in ranges[1:]]
    try:
        kernel(*ranges[0], *arguments)
    finally:
        wait(waiting)  # they still use the arguments, which the caller may wipe
    for task in waiting:
        task.result()
