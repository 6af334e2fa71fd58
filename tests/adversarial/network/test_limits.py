"""Every limit of a worker ends in a status, whatever a client does or stops doing, and others are served meanwhile."""

from __future__ import annotations

import queue
import socket
import threading
import time

import grpc
import pytest
from raw_client import Parts, RawClient, address_of, held_and_honest, settled

from private_lora.core.errors import UserError
from private_lora.network.client.connection import ask_health
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import LARGEST_PART
from private_lora.network.wire.security import Address
from private_lora.network.worker import server as workers
from private_lora.network.worker.held import Held, HeldProduct
from private_lora.network.worker.limits import Limits
from private_lora.specs.worker import WorkerSpec

PRODUCT = "model.layers.0.self_attn.o_proj forward"
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def honest():
    return held_and_honest(PRODUCT)


def waiting_for(running, requests, size=None):
    """Whether so many requests (and bytes) are being served, soon."""
    end = time.monotonic() + 10
    budget = running.service.budget
    while time.monotonic() < end:
        if budget.requests == requests and size in (None, budget.bytes):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("timeout", [None, 61, 1e6])
@pytest.mark.parametrize("method", ["Open", "Accept", "Multiply", "Close"])
def test_a_call_needs_a_deadline_that_is_granted(honest, local_worker, method, timeout):
    with local_worker(honest[0], Limits(deadline_s=60)) as running, RawClient(address_of(running)) as client:
        call, silent = client.channel.stream_stream(f"/private_lora.v1.Worker/{method}"), Parts()
        with pytest.raises(grpc.RpcError, match="deadline of at most 60 seconds") as caught:
            list(call(silent, timeout=timeout))  # nothing is sent, and the refusal does not wait for it
        silent.end()
        assert caught.value.code() == Code.INVALID_ARGUMENT
        counted = {"method": method, "code": "INVALID_ARGUMENT"}
        registry = running.service.metrics.registry
        assert registry.get_sample_value("private_lora_worker_requests_total", counted) == 1
        assert honest[1].is_served(address_of(running))


def test_calls_that_never_send_their_message_leave_room_for_others(honest, local_worker):
    with local_worker(honest[0], Limits(requests=2)) as running, RawClient(address_of(running)) as client:
        silent = [Parts() for _ in range(8)]  # twice as many calls would need more threads than there are
        for method in ("Worker/Open", "Worker/Close"):
            calls = [client.channel.stream_unary(f"/private_lora.v1.{method}").future(parts) for parts in silent]
            assert {call.exception(timeout=10).code() for call in calls} <= {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
        silent.append(Parts())
        check = client.channel.stream_unary("/grpc.health.v1.Health/Check").future(silent[-1])
        assert check.exception(timeout=10).code() == Code.INVALID_ARGUMENT
        for parts in silent:
            parts.end()
        assert honest[1].is_served(address_of(running))


def test_sessions_are_few_and_idle_ones_give_way(honest, local_worker):
    with local_worker(honest[0], Limits(clients=4)) as running:
        first, second, third = (RawClient(address_of(running)) for _ in range(3))
        for client in (first, second, third):  # of one certificate, whose oldest session gives way to its third
            assert client.open() is None
        assert len(running.service.sessions) == 2
        _, data = honest[1].question()
        assert first.multiply(first.question(data, PRODUCT, session_id=b"\0" * 16))[0] == Code.NOT_FOUND
        assert isinstance(second.multiply(second.question(data, PRODUCT)), bytes)
        assert honest[1].is_served(address_of(running))
        assert settled(running.service)


def test_requests_at_one_time_are_limited_and_one_that_stalls_is_ended_by_its_deadline(honest, local_worker):
    held, one = honest
    x, data = one.question()
    with local_worker(held, Limits(requests=4)) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        outcome = queue.Queue()

        def stall():
            parts = Parts(client.header(len(data), PRODUCT), messages.Part(data=data[:10]))
            outcome.put((client.multiply(parts, timeout=3), parts.end()))

        stalled = threading.Thread(target=stall)
        stalled.start()
        assert waiting_for(running, 1, held.products[PRODUCT].server.cost(3).bytes)
        begin = time.monotonic()
        assert one.is_right(x, client.multiply(client.question(data, PRODUCT)))  # others are served meanwhile
        assert running.service.budget.requests == 1
        second = Parts(client.header(len(data), PRODUCT))
        other = client.stub.Multiply(second, timeout=20)
        assert waiting_for(running, 2)
        code, text = client.multiply(client.question(data, PRODUCT))
        assert (code, "2 requests already" in text) == (Code.RESOURCE_EXHAUSTED, True)
        assert client.open() is None  # a handshake is not counted
        stalled.join()
        assert outcome.get()[0][0] == Code.DEADLINE_EXCEEDED
        assert time.monotonic() - begin < 15
        other.cancel()
        second.end()
        assert settled(running.service)
        assert one.is_served(address_of(running))


def test_memory_is_refused_by_what_is_announced_before_it_is_sent(honest, local_worker):
    held, one = honest
    server = held.products[PRODUCT].server
    limits = Limits(memory_bytes=2**24)
    rows = limits.largest_rows(server)
    size, taken = server.cost(rows).question, server.cost(rows).bytes
    assert 2**24 / 5 < taken <= 2**24 / 4
    with local_worker(held, limits) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        stalled = [Parts(client.header(size, PRODUCT, rows=rows)) for _ in range(3)]
        calls = [client.stub.Multiply(parts, timeout=20) for parts in stalled[:2]]
        assert waiting_for(running, 2, 2 * taken)  # for the answers, too, though nothing was sent
        code, text = client.multiply(stalled[2])
        assert (code, "leave too few" in text) == (Code.RESOURCE_EXHAUSTED, True)
        for call in calls:
            call.cancel()
        for parts in stalled:
            parts.end()
        assert settled(running.service)
        assert one.is_served(address_of(running))


def test_parts_are_limited_by_grpc(honest, local_worker):
    with local_worker(honest[0]) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        server = honest[0].products[PRODUCT].server
        rows = Limits().largest_rows(server)
        size = server.cost(rows).question
        assert size > LARGEST_PART + 1  # so that the header is legal, and it is gRPC that refuses
        parts = [client.header(size, PRODUCT, rows=rows), messages.Part(data=bytes(LARGEST_PART + 1))]
        for _ in range(60):  # more than a connection has streams at one time
            assert client.multiply(parts)[0] == Code.RESOURCE_EXHAUSTED
        assert client.multiply([]) == (Code.INVALID_ARGUMENT, "the stream does not begin with a header")
        assert settled(running.service)
        assert honest[1].is_served(address_of(running))


class Gated:
    """A server that multiplies when the test opens its gate."""

    def __init__(self, server):
        self._server, self.entered, self.gate = server, threading.Event(), threading.Event()
        self.plan = server.plan

    def matmul(self, message):
        self.entered.set()
        assert self.gate.wait(20)
        return self._server.matmul(message)

    def cost(self, rows):
        return self._server.cost(rows)

    @property
    def counters(self):
        return self._server.counters


@pytest.mark.parametrize("ending", ["cancels", "disconnects", "waits too short"])
def test_a_client_that_goes_away_while_its_product_is_multiplied_leaves_nothing(honest, local_worker, ending):
    held, one = honest
    gated = Gated(held.products[PRODUCT].server)
    slow = Held(held.settings, held.backend, {PRODUCT: HeldProduct(PRODUCT, b"", "{}", gated)})
    x, data = one.question()
    with local_worker(slow) as running, RawClient(address_of(running)) as client, RawClient(address_of(running)) as next_one:
        assert client.open() is None
        assert next_one.open() is None
        call = client.stub.Multiply(iter(client.question(data, PRODUCT)), timeout=1 if ending == "waits too short" else 20)
        assert gated.entered.wait(10)
        # Its turn comes when the first is done, though nobody wants that any more.
        waiting = next_one.stub.Multiply(iter(next_one.question(data, PRODUCT)), timeout=20)
        impatient = client.stub.Multiply(iter(client.question(data, PRODUCT)), timeout=20)
        assert waiting_for(running, 3)
        impatient.cancel()
        assert waiting_for(running, 2)  # it gives up while it waits for its turn
        {"cancels": call.cancel, "disconnects": client.channel.close, "waits too short": call.exception}[ending]()
        gated.gate.set()
        answer = b"".join(part.data for part in waiting)
        assert one.is_right(x, answer)
        assert settled(running.service)
        assert one.is_served(address_of(running))


def test_a_client_that_does_not_read_its_answer_is_ended_by_its_deadline(honest, local_worker):
    held, one = honest
    with local_worker(held) as running, RawClient(address_of(running)) as client:
        assert client.open() is None
        _, data = one.question(rows=2**15)
        call = client.stub.Multiply(iter(client.question(data, PRODUCT)), timeout=6)
        next(call)  # the header; the rest, more than gRPC holds for a client, waits at the worker
        time.sleep(0.5)
        assert running.service.budget.requests == 1
        assert one.is_served(address_of(running))
        assert settled(running.service)
        assert call.code() == Code.DEADLINE_EXCEEDED


GARBAGE = {
    "nothing": b"",
    "zeros": bytes(1000),
    "HTTP/1.1": b"GET /metrics HTTP/1.1\r\nHost: worker\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),
    "half an HTTP/2 preface": b"PRI * HTTP/2.0\r\n",
    "frames that are none": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000,
}


def test_garbage_on_the_port_disturbs_nobody(honest, local_worker):
    with local_worker(honest[0]) as running:
        for _ in range(5):
            for garbage in GARBAGE.values():
                with socket.create_connection(("127.0.0.1", running.port), 5) as connection:
                    connection.sendall(garbage)
        idle = [socket.create_connection(("127.0.0.1", running.port), 5) for _ in range(100)]
        assert honest[1].is_served(address_of(running))
        for connection in idle:
            connection.close()
        assert settled(running.service)


def test_health_says_that_a_worker_serves_until_it_stops(honest, local_worker):
    with local_worker(honest[0]) as running:
        assert ask_health(address_of(running), None) == "SERVING"
        with RawClient(address_of(running)) as client, pytest.raises(grpc.RpcError) as caught:
            next(client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=5))
        assert caught.value.code() == Code.UNIMPLEMENTED  # a place for as long as a client likes
    assert ask_health(address_of(running), None) == "UNAVAILABLE"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "worker.example.org"])
def test_plain_text_is_refused_where_others_may_listen(honest, host):
    address = Address(host, 0)
    with pytest.raises(UserError, match="not a loopback address"):
        workers.start(honest[0], address, None, Limits())
    spec = WorkerSpec(model="nano", backend="packed", activation_bits=8, weight_bits=8)
    for listen, metrics in ((address, None), (Address("127.0.0.1", 0), address)):
        with pytest.raises(UserError, match="not a loopback address"):
            workers.serve(spec, listen, None, Limits(), metrics)
