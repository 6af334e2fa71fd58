"""Secrets in memory: overwritten after use, used by one process, kept out of core dumps and swap where the system allows."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

# From linux/prctl.h and bits/mman.h.
_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_achieved: dict[str, str] = {}


def wipe(*buffers) -> None:
    """Overwrite with zeros: NumPy arrays, bytearrays; None is passed over."""
    for buffer in buffers:
        if buffer is not None:
            buffer[:] = 0 if hasattr(buffer, "dtype") else bytes(len(buffer))


class OneProcess:
    """The process that secrets were drawn in; a fork of it would use them, and the random numbers to come, a second time."""

    def __init__(self):
        self._pid = os.getpid()

    def check(self) -> None:
        """Nothing; raises RuntimeError in a fork."""
        if os.getpid() != self._pid:
            raise RuntimeError("a process was forked after keys were made: they are used once, so the fork cannot use them")


def harden_process() -> None:
    """No core dumps and no swapping of this process, as far as the system allows: `hardening` says what came of it."""
    _achieved["core_dumps"] = _without_core_dumps()
    _achieved["locked_memory"] = _locked()


def hardening() -> dict[str, str]:
    """What `harden_process` achieved in this process, for a sidecar; empty if it was not called."""
    return dict(_achieved)


def _without_core_dumps() -> str:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    if not sys.platform.startswith("linux"):
        return "off by limit"
    # Also where a core_pattern pipes to a program, which no limit stops, and for debuggers of the same user.
    failed = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return "off by limit" if failed else "off"


def _locked() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # Under a limit, locking what is there would make later allocations fail.
    if limit != resource.RLIM_INFINITY:
        return f"no: RLIMIT_MEMLOCK is {limit} bytes"
    if not sys.platform.startswith("linux"):
        return "no: not on this system"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return f"no: {os.strerror(ctypes.get_errno())}"
    return "all"
