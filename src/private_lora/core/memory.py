"""Memory of this process: its peak, and giving it back."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

from private_lora.core.errors import UserError


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Largest resident size of a process so far, or since it was forgotten, in bytes (Linux); UserError if it has ended."""
    with suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise UserError(f"process {pid} has ended, so nothing says how much memory it took: look into its log")


def forget_peak_memory() -> None:
    """Give freed memory back and count the peak from here on, where the system allows it: another run begins."""
    gc.collect()
    give_back_memory()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can: quantizing left holes of the size of the largest weights."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
