"""Altered messages, many of them: a worker process answers every one with a status, keeps its memory and serves on."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import psutil
import pytest
from mutations import CLOSE, OPEN, Mutator, seeded_question
from raw_client import Honest, RawClient, held_and_honest

from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.worker.held import hold
from private_lora.specs.worker import WorkerSpec

SEED = int(os.environ.get("FUZZ_SEED", "20250507"))
AT_ONCE = 8  # what one client may have of the 16 requests of the default limits
DEADLINE_S = 60.0
BATCH = 1000
GLWE_MESSAGES = 400
GARBAGE_EVERY = 250
GROWTH_BYTES = 200 * 2**20
AT_ONCE_REFUSED = ("--max-refusals-per-s", "1e9")  # here they shall be many
# What a worker may say to an altered message.
EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "ALREADY_EXISTS"}
EXPECTED |= {"FAILED_PRECONDITION"}


class Fuzzing:
    """Sends calls by number, some at a time, and keeps what came of them. material: what every session needs, if anything."""

    def __init__(self, address, process, mutator, material=None):
        self._address, self._mutator, self._material = address, mutator, material
        self._worker = psutil.Process(process.pid)
        self.statuses, self.unexpected = Counter(), []
        self.largest = 0
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def run(self, first: int, stop: int) -> None:
        """Calls first..stop-1 on a connection and in a session of their own."""
        with RawClient(self._address) as client:
            assert client.open() is None
            assert self._material is None or client.accept(self._material) is None
            self._mutator.session_id = client.session_id
            list(self._threads.map(lambda number: self._send(client.channel, number), range(first, stop)))
            self._close(client.channel, client.session_id)

    def _send(self, channel, number: int) -> None:
        method, parts = self._mutator.call(number)
        try:
            answer = self._called(channel, method, parts)
        except grpc.RpcError as error:
            status = error.code().name
            if status not in EXPECTED:
                self.unexpected.append((number, method, status, error.details()))
        else:
            status = "OK"
            if method == OPEN:
                self._close(channel, messages.Welcome.FromString(answer).session_id)
        self.statuses[status] += 1
        if number % 50 == 0:
            self.largest = max(self.largest, self._worker.memory_info().rss)
        if number % GARBAGE_EVERY == 0:
            self._send_garbage(number)

    @staticmethod
    def _called(channel, method: str, parts: list[bytes]) -> bytes:
        """The first message of the answer, after all of it; raises RpcError."""
        first, *_ = channel.stream_stream(method)(iter(parts), timeout=DEADLINE_S)
        return first

    def _close(self, channel, session_id: bytes) -> None:
        try:
            self._called(channel, CLOSE, [messages.Goodbye(session_id=session_id).SerializeToString()])
        except grpc.RpcError as error:  # an altered goodbye was there before
            assert error.code() == grpc.StatusCode.NOT_FOUND

    def _send_garbage(self, number):
        """Bytes that are no gRPC on a connection of their own."""
        generator = np.random.default_rng((SEED, number))
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if number % (2 * GARBAGE_EVERY) else b""
        with socket.create_connection((self._address.host, self._address.port), 5) as connection:
            connection.sendall(preface + generator.bytes(int(generator.integers(1, 3000))))


def fuzzed(process, address, honest, fuzzing, count, batch, growth) -> None:
    """Send `count` altered messages in batches; raises AssertionError when the worker is not what it should be afterwards.

    growth: bytes by which its memory may grow after the first batch.
    """
    assert honest.is_served(address)
    fuzzing.run(0, min(count, batch))
    before, begin = psutil.Process(process.pid).memory_info().rss, time.monotonic()
    fuzzing.largest = before
    for first in range(batch, count, batch):
        fuzzing.run(first, min(count, first + batch))
        assert process.poll() is None
        if first // batch % 10 == 0:
            assert honest.is_served(address)
    rate = max(0, count - batch) / max(time.monotonic() - begin, 1e-9)
    memory = f"memory {before >> 20} MiB, at most {fuzzing.largest >> 20} MiB"
    print(f"seed {SEED}, {count} messages, {rate:.0f} a second, {dict(fuzzing.statuses)}, {memory}")
    assert not fuzzing.unexpected, fuzzing.unexpected[:5]
    assert sum(fuzzing.statuses.values()) == count
    assert fuzzing.largest - before < growth
    assert process.poll() is None
    assert honest.is_served(address)


def test_altered_messages_to_packed_get_a_status_and_change_nothing(worker_process, fuzz_messages):
    held, honest = held_and_honest("model.layers.0.self_attn.o_proj forward")
    names = list(held.products)
    questions = [(name, seeded_question(held.products[name], SEED + i, 1 + 3 * i)) for i, name in enumerate(names)]
    flags = ("--backend", "packed", "--layers", "0", "--activation-bits", "8", "--weight-bits", "8")
    with worker_process("nano", *flags, *AT_ONCE_REFUSED) as (process, address):
        fuzzing = Fuzzing(address, process, Mutator(questions, SEED, 5))
        fuzzed(process, address, honest, fuzzing, fuzz_messages, BATCH, GROWTH_BYTES)
    assert set(fuzzing.statuses) >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE"}


@pytest.mark.slow
def test_altered_messages_to_glwe_get_a_status_and_change_nothing(worker_process):
    held, truth = (
        hold(WorkerSpec(model="nano", backend=name, layers="0", activation_bits=7, weight_bits=7))
        for name in ("glwe", "integer")
    )
    name = list(held.products)[2]
    honest = Honest(held, truth, name)
    material = honest.client.public_material().to_bytes()
    # Questions of a few rows, which by the default limit of a turn are too many.
    flags = ("--backend", "glwe", "--layers", "0", "--activation-bits", "7", "--weight-bits", "7", "--max-turn-gops", "10000")
    with worker_process("nano", *flags, *AT_ONCE_REFUSED) as (process, address):
        mutator = Mutator([(name, honest.question(rows)[1]) for rows in (1, 2)], SEED, 3)
        fuzzing = Fuzzing(address, process, mutator, material)
        # While a session's key comes, the worker has it three times: as it came, as bytes, and as a key.
        fuzzed(process, address, honest, fuzzing, GLWE_MESSAGES, GLWE_MESSAGES // 2, 4 * len(material))
    assert set(fuzzing.statuses) >= {"INVALID_ARGUMENT", "NOT_FOUND"}
