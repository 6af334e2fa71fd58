"""Altered answers and handshakes, many of them: the client drops or rests their sender and goes on elsewhere."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from concurrent import futures
from contextlib import contextmanager

import grpc
import psutil
import pytest
from client_mutations import Answers, Failure, Welcomes, parsed
from liars import LAYER, SETTINGS, rows, two_layers, weight_of

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.network.client.connection import Connection, Refused, Unreachable
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import parts_of
from private_lora.network.wire.security import Address
from private_lora.network.wire.settings import PROTOCOL_VERSION

SEED = int(os.environ.get("FUZZ_SEED", "20250507"))
MESSAGES = int(os.environ.get("CLIENT_FUZZ_MESSAGES", "1000000"))
GROWTH_BYTES = 200 * 2**20
LONGEST_SENTENCE = 3000
PROGRESS = 20_000
ROWS = 2


class Impatient(Workers):
    """Asks again at once."""

    @staticmethod
    def _pause(attempt):
        pass


def welcome_of(held):
    held_products = held.products.values()
    products = [
        messages.Product(name=p.name, weight_sha256=p.weight_sha256, plan=p.plan, largest_rows=64) for p in held_products
    ]
    return messages.Welcome(
        protocol_version=PROTOCOL_VERSION,
        session_id=b"s" * 16,
        settings=held.settings.message(),
        products=products,
        largest_message=2**30,
        longest_deadline_s=600.0,
    )


class Sender:
    """What a worker sends: parts and handshakes as bytes, altered if told how. number: of the next."""

    def __init__(self, held, answers=None, welcomes=None):
        self.held, self._answers, self._welcomes = held, answers, welcomes
        self.number, self._honest = 0, welcome_of(held).SerializeToString()

    def welcome(self):
        return self._welcomes.of(self.number) if self._welcomes else self._honest

    def answer(self, parts):
        header, *data = parts
        message = self.held.backend.ciphertext_from_bytes(b"".join(part.data for part in data))
        answer = self.held.products[header.header.product].server.matmul(message).to_bytes()
        if self._answers is None:
            return iter([part.SerializeToString() for part in parts_of(answer, work=messages.Work(seconds=0.001))])
        return self._answers.of(self.number, answer)


class Direct:
    """A stub without a network: the bytes of a sender, parsed as gRPC does."""

    def __init__(self, sender):
        self._sender = sender

    def Open(self, hello, timeout):
        return parsed(messages.Welcome, self._sender.welcome())

    def Multiply(self, parts, timeout):
        return Stream(self._sender.answer(list(parts)))

    def Close(self, goodbye, timeout):
        return messages.Closed()


class Stream:
    """Parts from their bytes; `cancel` ends it."""

    def __init__(self, parts):
        self._parts = parts

    def __iter__(self):
        return self

    def __next__(self):
        return parsed(messages.Part, next(self._parts))

    def cancel(self):
        self._parts = iter(())


@contextmanager
def direct(sender, port):
    connection = Connection(Address("127.0.0.1", port), None)
    connection.meet()
    object.__setattr__(connection._peer, "stub", Direct(sender))
    yield connection


@contextmanager
def over_grpc(sender):
    """A real server that sends whatever the sender says."""

    def aborted(method):
        def call(request, context):
            try:
                return method(request)
            except Failure as error:
                context.abort(error.code(), (error.details() or "")[:4000].replace("\0", "?"))

        return call

    def streamed(requests, context):
        try:
            yield from sender.answer(list(requests))
        except Failure as error:
            context.abort(error.code(), (error.details() or "")[:4000].replace("\0", "?"))

    handlers = {
        "Open": grpc.unary_unary_rpc_method_handler(aborted(lambda _: sender.welcome())),
        "Close": grpc.unary_unary_rpc_method_handler(lambda *_: b""),
        "Multiply": grpc.stream_stream_rpc_method_handler(streamed, request_deserializer=messages.Part.FromString),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("private_lora.v1.Worker", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Connection(Address("127.0.0.1", port), None)
    finally:
        server.stop(0).wait()


class Fuzzed:
    """A client with a worker that sends altered messages, first, and an honest one."""

    def __init__(self, sender, liar, honest):
        self.sender, self.liar = sender, liar
        self.workers = Impatient([liar, honest], Patience(30, 60))
        self.place = RemotePlace(self.workers, Asking())
        weight, backend = weight_of(LAYER), load("packed")
        plan = backend.plan(weight.values, 8)
        self.server = self.place.server(backend, plan, weight)
        self.client = backend.client(plan).prepare(weight.values)
        self.weight, self.outcomes = weight.values, Counter()
        self.memory = psutil.Process()
        self.before = self.largest = 0
        self.workers._settings, self.workers._expected = SETTINGS, self.place._expected
        self.workers.open(honest)
        self._open_liar()

    def _open_liar(self):
        """A handshake with the liar: it works, or ends with one of the intended errors in a short, printable line."""
        try:
            self.workers.open(self.liar)
        except (Unreachable, Refused, UserError) as error:
            text = str(error)
            assert len(text) <= LONGEST_SENTENCE, (self.sender.number, len(text))
            assert text.isprintable(), (self.sender.number, text[:300])
            return type(error).__name__
        return "opened"

    def forgive(self):
        self.workers.dropped.clear()
        self.workers.caught.lies.clear()
        self.liar.wake()

    def answers(self, first, stop):
        for number in range(first, stop):
            self.sender.number = number
            if self.liar.session_id is None:
                self._open_liar()
            x, rejected, retries = rows(number % 64, ROWS), self.place.counters.rejected_answers, self.workers.counters.retries
            assert (self.place.product(self.client, self.server, x).y == x @ self.weight).all(), number
            caught, retried = self.place.counters.rejected_answers - rejected, self.workers.counters.retries - retries
            outcome = "rejected" if caught else "dropped" if self.workers.dropped else "retried" if retried else "right"
            self.outcomes[outcome] += 1
            self.forgive()
            self.watch(number - first)

    def welcomes(self, first, stop):
        for number in range(first, stop):
            self.sender.number = number
            self.liar.session_id = None
            outcome = self._open_liar()
            self.outcomes[outcome] += 1
            if number % 50 == 0 or outcome == "opened":
                x = rows(number % 64, ROWS)
                assert (self.place.product(self.client, self.server, x).y == x @ self.weight).all(), number
            self.forgive()
            self.watch(number - first)

    def watch(self, done):
        if done % 500:
            return
        rss = self.memory.memory_info().rss
        self.before = self.before or rss
        self.largest = max(self.largest, rss)
        if done and done % PROGRESS == 0:
            print(f"{done} so far: {dict(self.outcomes)}, memory at most {self.largest >> 20} MiB", flush=True)


@contextmanager
def fuzzed(altered, transport):
    logging.disable()  # a line for every lie and every broken message, with tracebacks that pytest would keep
    held = two_layers()
    sender, honest = Sender(held, **altered(held)), Sender(two_layers())
    start = transport(sender) if transport is over_grpc else direct(sender, 1)
    with start as liar, direct(honest, 2) as other:
        one = Fuzzed(sender, liar, other)
        begin = time.monotonic()
        try:
            yield one
        finally:
            one.place._threads.shutdown()
            logging.disable(logging.NOTSET)
    count, rate = sum(one.outcomes.values()), sum(one.outcomes.values()) / (time.monotonic() - begin)
    memory = f"memory {one.before >> 20} MiB, at most {one.largest >> 20} MiB"
    print(f"seed {SEED}, {transport.__name__}: {count} messages, {rate:.0f} a second, {dict(one.outcomes)}, {memory}")
    assert one.largest - one.before < GROWTH_BYTES
    assert not one.client.keys.secret
    assert one.server.counters.products == one.server.counters.encrypted_products > 0
    assert one.client.counters.encrypted_products == 0


def altered_answers(_):
    return {"answers": Answers(SEED)}


def altered_welcomes(held):
    return {"welcomes": Welcomes(welcome_of(held), SEED)}


@pytest.mark.parametrize(
    ("transport", "some", "share"),
    [
        pytest.param(direct, 1500, None, id="direct"),
        pytest.param(over_grpc, 300, None, id="grpc"),
        pytest.param(direct, None, {"answers": 0.28, "welcomes": 0.68}, id="direct-long", marks=pytest.mark.slow),
        pytest.param(over_grpc, None, {"answers": 0.02, "welcomes": 0.02}, id="grpc-long", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", ["answers", "welcomes"])
def test_altered_messages_to_the_client_change_no_answer(kind, transport, some, share):
    count = some or round(share[kind] * MESSAGES)
    with fuzzed(altered_answers if kind == "answers" else altered_welcomes, transport) as one:
        getattr(one, kind)(0, count)
    assert sum(one.outcomes.values()) == count
    assert len(one.outcomes) >= 3
    assert threading.active_count() < 50


def test_the_honest_sender_is_believed():
    with fuzzed(lambda _: {}, direct) as one:
        one.answers(0, 20)
        assert one.outcomes == {"right": 20}
