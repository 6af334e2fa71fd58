"""Memory of this process: its peak, and giving it back."""

from __future__ import annotations

import ctypes
import resource


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, in bytes (Linux reports KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can: quantizing left holes of the size of the largest weights."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
