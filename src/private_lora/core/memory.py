"""Memory of this process: its peak, keeping it, and giving it back."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from private_lora.core.errors import UserError

# Bytes of libraries that this process had in memory when it was forked: see `keep_libraries`.
_libraries = 0
# Parameters of glibc's mallopt, see malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Largest resident size of a process so far, in bytes (Linux); UserError if it has ended.

    A fork starts without the pages of libraries that it shares with its parent; of this process they are counted nevertheless.
    """
    peak = _status_bytes(pid, "VmHWM")
    return peak + max(0, _libraries - _status_bytes(pid, "RssFile")) if pid == "self" else peak


def resident_memory_bytes() -> int:
    """Resident size of this process now."""
    return _status_bytes("self", "VmRSS")


def keep_libraries() -> None:
    """From now on the libraries that are in memory count as memory of this process, and of those that it forks."""
    global _libraries
    _libraries = _status_bytes("self", "RssFile")


def _status_bytes(pid: int | str, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    found = next((line for line in lines if line.startswith(f"{key}:")), None)
    if found is None:
        raise UserError(f"process {pid} has ended, so nothing says how much memory it took: look into its log")
    return int(found.split()[1]) * 1024


def physical_memory_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_freed_memory() -> None:
    """From now on freed blocks stay with this process, of any size, for the next that ask; nothing changes off glibc.

    By default glibc maps each block of 32 MiB or more afresh and unmaps it when it is freed: on virtual machines, faulting its
    pages in again costs more than the product in them. Where the environment tunes malloc, that stands.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "glibc.malloc" not in os.environ.get("GLIBC_TUNABLES", ""):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never: `give_back_memory` does it where it is worth it


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can: quantizing left holes of the size of the largest weights."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
