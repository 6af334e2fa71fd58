"""Laps of a stopwatch are the times between them."""

from private_lora.split import stopwatch
from private_lora.split.stopwatch import Stopwatch


def test_laps_follow_each_other(monkeypatch):
    clock = iter([10.0, 11.5, 11.75, 14.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    assert [watch.lap() for _ in range(3)] == [1.5, 0.25, 2.25]
