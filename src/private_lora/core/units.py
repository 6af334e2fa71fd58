"""Quantities as people write them: `100Mbit`, `40ms`. Imports nothing heavy."""

from __future__ import annotations

import math
import re

from private_lora.core.errors import UserError

_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"


def bandwidth(text: str) -> float:
    """Bits per second of `100Mbit`, `1Gbit/s`, `100Mbps` or `12.5MB/s` (bytes); raises UserError on anything else."""
    match = re.fullmatch(_NUMBER + r"\s*([kKMGT]?)(bit|bps|b|B)(?:/s)?", text.strip())
    if not match or float(match[1]) == 0:
        raise UserError(f"bandwidth {text!r} is no number with a unit, such as 100Mbit, 1Gbit or 12MB/s (a B is a byte)")
    return float(match[1]) * _PREFIXES[match[2]] * (8 if match[3] == "B" else 1)


def duration(text: str) -> float:
    """Seconds of `40ms`, `0.5s` or `200us`; raises UserError on anything else."""
    match = re.fullmatch(_NUMBER + r"\s*(s|ms|us|µs)", text.strip())
    if not match:
        raise UserError(f"latency {text!r} is no number with a unit, such as 40ms or 0.2s")
    return float(match[1]) * _SECONDS[match[2]]


def of_bytes(size: float) -> str:
    """`5.7 GB`, in powers of ten, of three digits."""
    return _scaled(size, ("B", "kB", "MB", "GB", "TB", "PB"))


def of_bits(rate: float) -> str:
    """`100 Mbit/s`."""
    return _scaled(rate, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = min(len(units) - 1, int(math.log10(value) / 3 + 1e-9)) if value >= 1 else 0
    return f"{value / 1000**step:.3g} {units[step]}"


def of_seconds(seconds: float) -> str:
    """`0.12 s`, `2.5 minutes`, `3.1 hours`, `4 days`."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
