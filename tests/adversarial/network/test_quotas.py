"""No client, greedy or slow, takes what others need; what a question's answer takes is known before it is multiplied."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest
from raw_client import Parts, RawClient, address_of, held_and_honest, rows_of, settled

from private_lora.network.wire.parts import PART_BYTES
from private_lora.network.worker import calls, service
from private_lora.network.worker.limits import Limits, Refusal
from private_lora.network.worker.quotas import Quota, RefusalRate
from private_lora.network.worker.turns import Turns

PRODUCT = "model.layers.0.self_attn.o_proj forward"
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def honest():
    return held_and_honest(PRODUCT)


class Uncalled:
    """A server that must not be asked to multiply."""

    def __init__(self, server):
        self._server, self.plan, self.counters, self.cost = server, server.plan, server.counters, server.cost

    def matmul(self, message):
        raise AssertionError("it was multiplied")


def test_an_answer_that_has_no_room_is_refused_before_anything_is_multiplied(honest, local_worker, monkeypatch):
    held, one = honest
    product = held.products[PRODUCT]
    limits = Limits(message_bytes=2**20)
    most = limits.largest_rows(product.server)
    _, data = one.question(rows=most + 1)
    monkeypatch.setitem(held.products, PRODUCT, replace(product, server=Uncalled(product.server)))
    with local_worker(held, limits) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        silent = Parts(client.header(len(data), PRODUCT, rows=most + 1))
        code, text = client.multiply(silent)  # by its header alone: nothing else is sent
        silent.end()
        assert (code, f"1 to {most} rows" in text) == (Code.OUT_OF_RANGE, True)
        # Nor does it help to announce fewer rows than there are.
        assert client.multiply(client.question(data, PRODUCT, rows=1))[0] == Code.OUT_OF_RANGE
        _, small = one.question(rows=2)
        assert client.multiply(client.question(small, PRODUCT, rows=3))[0] == Code.INVALID_ARGUMENT
        counted = running.service.metrics.registry.get_sample_value
        assert counted("private_lora_worker_refusals_total", {"limit": "rows"}) == 1
        assert settled(running.service)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_the_bytes_of_question_and_answer_are_what_was_reserved(honest, rows):
    server = honest[0].products[PRODUCT].server
    _, data = honest[1].question(rows)
    answer = server.matmul(honest[0].backend.ciphertext_from_bytes(data)).to_bytes()
    cost = server.cost(rows)
    assert (cost.question, cost.answer, rows_of(data)) == (len(data), len(answer), rows)


def test_the_largest_rows_are_the_most_that_fit(honest):
    server = honest[0].products[PRODUCT].server
    for limits in (Limits(), Limits(message_bytes=10**5), Limits(memory_bytes=10**7), Limits(turn_operations=10**8)):
        rows = limits.largest_rows(server)
        fit = [
            4 * cost.bytes <= limits.memory_bytes
            and max(cost.question, cost.answer) <= limits.message_bytes
            and cost.operations <= limits.turn_operations
            for cost in (server.cost(rows), server.cost(rows + 1))
        ]
        assert fit == [True, False]
    assert Limits(message_bytes=10).largest_rows(server) == 0


def test_greedy_clients_leave_something_to_the_next():
    quota = Quota("memory", 100, "bytes")
    for greedy, share in (("a", 50), ("b", 25), ("c", 12)):
        for _ in range(200):
            try:
                quota.take(greedy)
            except Refusal as refusal:
                assert (refusal.code, refusal.limit) == (Code.RESOURCE_EXHAUSTED, "memory")
        assert quota._held[greedy] == share
    quota.take("d", 13)
    with pytest.raises(Refusal, match="100 of 100 are taken"):
        quota.take("e")
    quota.give_back("a", 50)
    quota.take("e", 20)


def test_refusals_wait_after_the_first_few_of_each_client():
    rate = RefusalRate(Limits(refusals_per_s=10.0, refusals_at_once=5))
    waits = [rate.delay_s("a", now=100.0) for _ in range(8)]
    assert waits == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2, 0.3])
    assert rate.delay_s("b", now=100.0) == 0  # another client's are its own
    assert rate.delay_s("a", now=100.3) == pytest.approx(0.1)
    assert [rate.delay_s("a", now=101.0) for _ in range(6)] == pytest.approx([0, 0, 0, 0, 0, 0.1])
    rate.delay_s("b", now=1000.0)
    assert list(rate._next) == ["b"]  # who has none left is forgotten


def test_bad_messages_are_refused_only_so_fast_and_another_client_does_not_wait(honest, local_worker, monkeypatch):
    monkeypatch.setattr(calls, "identity_of", lambda context: context.peer())
    monkeypatch.setattr(service, "identity_of", lambda context: context.peer())
    waits, delay_s = [], RefusalRate.delay_s
    monkeypatch.setattr(RefusalRate, "delay_s", lambda *args: waits.append(delay_s(*args)) or waits[-1])
    limits = Limits(refusals_per_s=10.0, refusals_at_once=5)
    with local_worker(honest[0], limits) as running:
        bad, good = (RawClient(address_of(running)) for _ in range(2))
        assert bad.open() is None and good.open() is None
        begin = time.monotonic()
        for _ in range(20):
            assert bad.multiply(bad.question(b"none of ours", PRODUCT, rows=1))[0] == Code.INVALID_ARGUMENT
        assert time.monotonic() - begin > 1.4  # of the twenty, five at once and ten a second
        assert good.multiply(good.question(b"none of ours", PRODUCT, rows=1))[0] == Code.INVALID_ARGUMENT
        assert len(waits) == 21 and max(waits[5:20]) > 0 and waits[20] == 0
        bad.channel.close()
        good.channel.close()
        assert honest[1].is_served(address_of(running))


def test_turns_are_shared_by_time_and_given_up_by_who_has_gone():
    turns, order, begin = Turns(), [], threading.Barrier(5)

    def ask(client, seconds, times):
        begin.wait()
        for _ in range(times):
            with turns.turn(client, lambda: True):
                order.append(client)
                time.sleep(seconds)

    many = [threading.Thread(target=ask, args=("many", 0.01, 10)) for _ in range(4)]
    one = threading.Thread(target=ask, args=("one", 0.01, 10))
    for thread in (*many, one):
        thread.start()
    for thread in (*many, one):
        thread.join()
    assert len(order) == 50
    last = len(order) - order[::-1].index("one")
    assert last <= 25  # of ten turns of its own, though four others ask all the time
    with turns.turn("many", lambda: True), pytest.raises(Refusal, match="went away"), turns.turn("gone", lambda: False):
        pass
    assert not turns._waiting


@pytest.mark.parametrize("direction", ["up", "down", "a single message"])
def test_streams_that_do_not_move_are_ended(honest, local_worker, direction):
    limits = Limits(stalled_s=1.0)
    with local_worker(honest[0], limits) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        begin, silent = time.monotonic(), Parts()
        if direction == "up":
            _, data = honest[1].question()
            silent.send(client.header(len(data), PRODUCT))
            call = client.stub.Multiply(silent, timeout=60)
        elif direction == "down":
            _, data = honest[1].question(rows=2**15)
            call = client.stub.Multiply(iter(client.question(data, PRODUCT)), timeout=60)
            next(call)
        else:
            call = client.channel.stream_unary("/private_lora.v1.Worker/Open").future(silent, timeout=60)
        assert settled(running.service)
        if direction == "down":  # it would see that only when it had read what is on its way
            call.cancel()
        else:
            assert call.code() in (Code.CANCELLED, Code.UNKNOWN)
        assert time.monotonic() - begin < 30
        silent.end()
        counted = running.service.metrics.registry.get_sample_value
        assert counted("private_lora_worker_refusals_total", {"limit": "stalled"}) == 1
        assert honest[1].is_served(address_of(running))


def test_a_stream_that_crawls_is_ended(honest, local_worker):
    limits = Limits(grace_s=0.2, bytes_per_s=2 * PART_BYTES)
    _, data = honest[1].question()
    with local_worker(honest[0], limits) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        parts = Parts(client.header(len(data), PRODUCT))
        call = client.stub.Multiply(parts, timeout=60)
        first, *others = client.question(data, PRODUCT)
        for byte in np.frombuffer(others[0].data[:20], np.uint8):
            parts.send(type(first)(data=bytes([byte])))
            time.sleep(0.05)
        assert call.code() in (Code.CANCELLED, Code.UNKNOWN)
        parts.end()
        counted = running.service.metrics.registry.get_sample_value
        assert counted("private_lora_worker_refusals_total", {"limit": "rate"}) == 1
        assert settled(running.service)
