"""How fast workers answer, beside each other and beside themselves: one that is always just in time is noticed."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Slowness:
    """What is slow: the median of the last `answers` answers takes `factor` times what was expected, and all of them take
    `excess_s` more.

    Expected is the median of other workers' seconds per row of the same product, or else of the worker's own first answers to
    it. Whoever takes more than `near_deadline` of the deadline, answer after answer, is slow without anybody to compare with.
    """

    answers: int = 8
    factor: float = 5.0
    excess_s: float = 1.0
    near_deadline: float = 0.5


class Pace:
    """Seconds per row of a run's answers, by worker and product. slow: what is said of each worker that was found slow."""

    def __init__(self, slowness: Slowness | None = None):
        self._what = slowness or Slowness()
        self.slow: dict[str, str] = {}
        size = self._what.answers
        self._recent = defaultdict(lambda: defaultdict(lambda: deque(maxlen=size)))  # by product, then by worker
        self._first = defaultdict(list)  # by product and worker
        self._last = defaultdict(lambda: deque(maxlen=size))  # by worker: how often expected, seconds too many, of deadline
        self._lock = threading.Lock()

    def add(self, worker: str, product: str, rows: int, seconds: float, deadline_s: float) -> str | None:
        """Take in one answer; why its worker is slow at present, None if it is not."""
        with self._lock:
            rate, first = seconds / rows, self._first[product, worker]
            expected, whose = self._expected(worker, product)
            if len(first) < self._what.answers:
                first.append(rate)
            self._recent[product][worker].append(rate)
            excess_s = (rate - expected) * rows if expected else 0.0
            self._last[worker].append((rate / expected if expected else 1.0, excess_s, seconds / deadline_s))
            reason = self._reason(self._last[worker], whose)
            if reason:
                self.slow[worker] = reason
            return reason

    def _expected(self, worker: str, product: str) -> tuple[float | None, str]:
        """Seconds per row, and by whose answers."""
        others = [median(rates) for name, rates in self._recent[product].items() if name != worker and rates]
        if others:
            return median(others), "those of other workers"
        first = self._first[product, worker]
        return (median(first), "its own first answers") if first else (None, "")

    def _reason(self, last: deque, whose: str) -> str | None:
        if len(last) < self._what.answers:
            return None
        times, excess, shares = zip(*last, strict=True)
        if min(shares) > self._what.near_deadline:
            return f"its last {len(last)} answers each took more than {self._what.near_deadline:.0%} of the deadline"
        if median(times) >= self._what.factor and sum(excess) >= self._what.excess_s:
            return f"its last {len(last)} answers took {median(times):.1f} times as long, for each row, as {whose}"
        return None
