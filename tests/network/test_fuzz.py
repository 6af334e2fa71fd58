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
from raw_client import Honest, RawClient

from private_lora.network import protocol_pb2 as messages
from private_lora.network.held import WorkerSpec, hold

SEED = int(os.environ.get("FUZZ_SEED", "20250507"))
AT_ONCE = 12  # below the 16 requests of the default limits
DEADLINE_S = 60.0
BATCH = 500
GARBAGE_EVERY = 250
GROWTH_BYTES = 200 * 2**20
# What a worker may say to an altered message. INTERNAL is gRPC's own word for bytes that are no protobuf message of ours.
EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "ALREADY_EXISTS", "INTERNAL"}
EXPECTED |= {"FAILED_PRECONDITION"}
# HTTP/2 for: more streams at one time than the worker granted, of which it read nothing.
REFUSED_STREAM = "RST_STREAM with error code 7"
UNDECODABLE = "Exception deserializing request!"


class Fuzzing:
    """Sends calls by number, some at a time, and keeps what came of them."""

    def __init__(self, address, process, mutator):
        self._address, self._mutator = address, mutator
        self._worker = psutil.Process(process.pid)
        self.statuses, self.unexpected = Counter(), []
        self.largest = self.refused_streams = 0
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def run(self, first: int, stop: int) -> None:
        """Calls first..stop-1 on a connection and in a session of their own."""
        with RawClient(self._address) as client:
            assert client.open() is None
            self._mutator.session_id = client.session_id
            list(self._threads.map(lambda number: self._send(client.channel, number), range(first, stop)))
            self._close(client.channel, client.session_id)

    def _send(self, channel, number: int) -> None:
        method, parts = self._mutator.call(number)
        try:
            answer = self._called(channel, method, parts)
        except grpc.RpcError as error:
            status = error.code().name
            if status not in EXPECTED or (status == "INTERNAL" and error.details() != UNDECODABLE):
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

    def _called(self, channel, method: str, parts: list[bytes]) -> bytes:
        """The first message of the answer, after all of it; raises RpcError. What a busy connection refused is sent again."""
        for _ in range(100):
            try:
                return list(channel.stream_stream(method)(iter(parts), timeout=DEADLINE_S))[0]
            except grpc.RpcError as error:
                if REFUSED_STREAM not in error.details():
                    raise
                self.refused_streams += 1
                time.sleep(0.01)
        raise AssertionError(f"{method} was refused 100 times")

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


def fuzzed(process, address, honest, mutator, count, capsys) -> Fuzzing:
    """Send `count` altered messages in batches; what must hold between batches is checked between them."""
    fuzzing = Fuzzing(address, process, mutator)
    assert honest.is_served(address)
    fuzzing.run(0, warm := min(count, 2 * BATCH))
    before, begin = psutil.Process(process.pid).memory_info().rss, time.monotonic()
    fuzzing.largest = before
    for first in range(warm, count, BATCH):
        fuzzing.run(first, min(count, first + BATCH))
        assert process.poll() is None
        if first // BATCH % 10 == 0:
            assert honest.is_served(address)
    seconds = time.monotonic() - begin
    with capsys.disabled():
        print(
            f"\nseed {SEED}, {count} messages, {max(0, count - warm) / max(seconds, 1e-9):.0f} a second, "
            f"{dict(fuzzing.statuses)}, {fuzzing.refused_streams} streams refused, memory {before >> 20} MiB, at most {fuzzing.largest >> 20} MiB"
        )
    assert not fuzzing.unexpected, fuzzing.unexpected[:5]
    assert sum(fuzzing.statuses.values()) == count
    assert fuzzing.largest - before < GROWTH_BYTES
    assert process.poll() is None
    assert honest.is_served(address)
    return fuzzing


@pytest.mark.slow
def test_altered_messages_to_packed_get_a_status_and_change_nothing(worker_process, fuzz_messages, capsys):
    held, truth = (hold(WorkerSpec("nano", name, "0", activation_bits=8, weight_bits=8)) for name in ("packed", "integer"))
    names = list(held.products)
    questions = [(name, seeded_question(held.products[name], SEED + i, 1 + 3 * i)) for i, name in enumerate(names)]
    with worker_process("nano", "--backend", "packed", "--layers", "0", *EIGHT_BITS) as (process, address):
        fuzzing = fuzzed(process, address, Honest(held, truth, names[2]), Mutator(questions, SEED, 8), fuzz_messages, capsys)
        assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "INTERNAL"} <= set(fuzzing.statuses)


EIGHT_BITS = ("--activation-bits", "8", "--weight-bits", "8")
