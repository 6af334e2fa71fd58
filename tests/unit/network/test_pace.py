"""Slow workers are noticed: beside others, beside themselves, and beside the deadline."""

from __future__ import annotations

import itertools
import logging
import time

from liars import LAYER, asked_of, asker_of, lying, rows, truth, two_layers

from private_lora.network.client.pace import Pace, Slowness
from private_lora.network.client.workers import Patience

FEW = Slowness(answers=3, factor=5.0, excess_s=0.2)


def told(pace, worker, seconds, count=1, deadline_s=600.0, product="p"):
    return [pace.add(worker, product, 10, seconds, deadline_s) for _ in range(count)][-1]


def test_who_takes_many_times_as_long_as_others_is_slow_and_recovers():
    pace = Pace()
    assert told(pace, "a", 0.1, 8) is None
    assert told(pace, "b", 1.0, 7) is None
    assert "10.0 times as long, for each row, as those of other workers" in told(pace, "b", 1.0)
    assert told(pace, "a", 0.1) is None
    assert told(pace, "b", 0.1, 8) is None
    assert set(pace.slow) == {"b"}  # that it was, is remembered


def test_who_becomes_slow_is_noticed_without_others():
    pace = Pace()
    assert told(pace, "a", 0.1, 8) is None
    assert "as its own first answers" in told(pace, "a", 1.0, 8)


def test_who_is_always_just_inside_the_deadline_is_slow_from_the_start():
    assert "more than 50% of the deadline" in told(Pace(), "a", 59.0, 8, deadline_s=60.0)
    assert told(Pace(), "a", 29.0, 8, deadline_s=60.0) is None


def test_milliseconds_are_no_reason():
    pace = Pace()
    told(pace, "a", 0.001, 8)
    assert told(pace, "b", 0.01, 8) is None


def test_layers_are_compared_with_themselves():
    pace = Pace()
    told(pace, "a", 0.1, 8)
    assert told(pace, "b", 5.0, 8, product="larger") is None


def sleepy(seconds):
    def lie(_, answer):
        time.sleep(seconds)
        return answer

    return lie


def slow_lines(caplog):
    return [message for message in caplog.messages if "is slow" in message]


def test_a_worker_that_sleeps_rests_is_named_once_and_never_dropped(local_worker, caplog):
    caplog.set_level(logging.WARNING)
    held = lying(two_layers(), sleepy(0.2)), lying(two_layers(), truth)
    with local_worker(held[0]) as slow, local_worker(held[1]) as quick:
        with asker_of([quick, slow], pace=Pace(FEW)) as asker:
            workers = asker.place._workers
            for first in itertools.islice(itertools.cycle((0, 1)), 20):
                x = rows(first)
                question = asker.client.encrypt(x)
                largest = asker.client.largest_answer(len(x))
                answer = workers.ask(LAYER, question.to_bytes(), len(x), first, asker.client.public_material, largest)
                asker.client.forget(question)
                assert answer.seconds >= 0
            assert asked_of(slow) == 3  # then it rests
            assert asked_of(quick) == 17
            assert not asker.dropped
            report = asker.place.report()
            assert list(report["slow"]) == [f"127.0.0.1:{slow.port}"]
        assert len(slow_lines(caplog)) == 1
        assert "others are preferred" in slow_lines(caplog)[0]


def test_a_worker_without_others_is_asked_on_and_the_warning_says_so(local_worker, caplog):
    caplog.set_level(logging.WARNING)
    with local_worker(lying(two_layers(), sleepy(0.2))) as slow:
        with asker_of([slow], patience=Patience(0.35, 5), pace=Pace(FEW)) as asker:
            for seed in range(5):
                assert (asker.ask(rows(seed)) == rows(seed) @ asker.weight).all()
            assert asked_of(slow) == 5
        assert len(slow_lines(caplog)) == 1
        assert "of the deadline; there is no other for this layer" in slow_lines(caplog)[0]
