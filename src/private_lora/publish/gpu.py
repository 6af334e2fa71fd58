"""Whether anything was measured on a GPU: said by the rows themselves, wherever a page speaks of GPUs."""

from __future__ import annotations

from collections.abc import Iterable

# Tables with a line for every run or measurement and its device.
TABLES = ("runs", "layer", "block_latency", "generation")
GPU = "cuda"
NOTHING = "No row is measured on a GPU."


def said_of(devices: Iterable) -> str:
    """NOTHING, or nothing at all once a line is of a GPU."""
    return "" if GPU in set(devices) else NOTHING
