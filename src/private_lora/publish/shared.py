"""Summaries that several tables and figures are made of, computed once for the data that they sum up."""

from __future__ import annotations

import functools
from collections.abc import Callable
from weakref import WeakKeyDictionary

import pandas as pd

from private_lora.results.reader import Data


def once(summary: Callable[[Data], pd.DataFrame]) -> Callable[[Data], pd.DataFrame]:
    """The function, which computes its frame when it first sees the data and then returns copies."""
    known: WeakKeyDictionary[Data, pd.DataFrame] = WeakKeyDictionary()

    @functools.wraps(summary)
    def shared(data: Data) -> pd.DataFrame:
        if data not in known:
            known[data] = summary(data)
        return known[data].copy()

    return shared
