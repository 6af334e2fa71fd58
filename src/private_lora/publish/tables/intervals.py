"""Intervals of shares that were counted."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054  # of the normal distribution, for 95 %


def wilson(right: float, asked: float) -> tuple[float, float]:
    """Ends of the 95 % Wilson score interval of a share, right of asked; NaN where nothing was asked."""
    if not asked > 0:
        return math.nan, math.nan
    share, weight = right / asked, Z_95**2 / asked
    middle = share + weight / 2
    half = Z_95 * math.sqrt(share * (1 - share) / asked + weight / (4 * asked))
    # Rounding may carry an end past 0 or 1, or past the share itself.
    low, high = ((middle + sign * half) / (1 + weight) for sign in (-1, 1))
    return max(0.0, min(low, share)), min(1.0, max(high, share))
