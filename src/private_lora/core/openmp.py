"""Idle threads of OpenMP sleep: spinning, they hold the cores that other threads need next."""

from __future__ import annotations

import os
import sys
import warnings

# OpenMP reads it when torch is loaded, and never again.
VARIABLE = "OMP_WAIT_POLICY"
_torch_came_first = False


def let_idle_threads_sleep() -> None:
    """Unless the environment says otherwise; to be called before torch is imported."""
    global _torch_came_first
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = "PASSIVE"
        _torch_came_first = "torch" in sys.modules


def warn_if_threads_spin() -> None:
    """A warning, which says what to do, where torch was imported too early for `let_idle_threads_sleep`."""
    if _torch_came_first:
        warnings.warn(
            "torch was imported before private_lora, so its idle threads spin and can make products many times slower: "
            f"import private_lora first, or set {VARIABLE}=PASSIVE in the environment",
            stacklevel=3,
        )
