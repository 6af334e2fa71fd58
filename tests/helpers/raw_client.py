"""A client that says what it is told to, right or wrong, and what an honest one would say and hear."""

from __future__ import annotations

import os
import queue
import time

import grpc
import numpy as np

from private_lora.backends.contract import ClearMessage, pack, unpack
from private_lora.network.client.connection import OPTIONS
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import parts_of, read_data, read_header
from private_lora.network.wire.protocol_pb2_grpc import WorkerStub
from private_lora.network.wire.security import Address, client_channel
from private_lora.network.wire.settings import PROTOCOL_VERSION
from private_lora.network.worker.held import hold
from private_lora.specs.worker import WorkerSpec

DEADLINE_S = 20.0
SETTLED_S = 10.0
# What keeps channels of one process apart: without it they share a connection.
APART = [("grpc.use_local_subchannel_pool", 1)]


class Parts:
    """A stream whose parts are sent when the test says so."""

    def __init__(self, *parts):
        self._parts = queue.Queue()
        self.send(*parts)

    def send(self, *parts):
        for part in parts:
            self._parts.put(part)

    def end(self):
        self._parts.put(None)

    def __iter__(self):
        return self

    def __next__(self):
        if (part := self._parts.get()) is None:
            raise StopIteration
        return part


class RawClient:
    """One channel and, once opened, one session. Methods give status code and details of calls that fail."""

    def __init__(self, address: Address, tls=None):
        self.channel = client_channel(address, tls, OPTIONS + APART)
        self.stub = WorkerStub(self.channel)
        self.session_id = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def open(self, version=PROTOCOL_VERSION):
        """None and a session, or the refusal."""
        try:
            hello = messages.Hello(protocol_version=version)
            self.session_id = self.stub.Open(hello, timeout=DEADLINE_S).session_id
        except grpc.RpcError as error:
            return error.code(), error.details()
        return None

    def header(self, size: int, product: str, **fields) -> messages.Part:
        """The first part of a question."""
        given = {"size": size, "session_id": self.session_id, "request_id": os.urandom(16), "product": product, "rows": 3}
        given |= fields
        return messages.Part(header=messages.Header(**given))

    def question(self, data: bytes, product: str, **fields) -> list[messages.Part]:
        """All parts of a question."""
        given = {"session_id": self.session_id, "request_id": os.urandom(16), "product": product, "rows": rows_of(data)}
        given |= fields
        return list(parts_of(data, **given))

    def multiply(self, parts, timeout=DEADLINE_S):
        """The answer's bytes, or the refusal."""
        try:
            answer = self.stub.Multiply(iter(parts), timeout=timeout)
            return bytes(read_data(answer, read_header(answer).size))
        except grpc.RpcError as error:
            return error.code(), error.details()

    def accept(self, data: bytes, timeout=DEADLINE_S):
        """None, or the refusal."""
        try:
            self.stub.Accept(parts_of(data, session_id=self.session_id), timeout=timeout)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return None


class Honest:
    """The client's side of one product of a `Held`, which this process holds as well as the worker does."""

    def __init__(self, held, truth, product: str):
        self.backend, self.product = held.backend, product
        self.plan = held.products[product].server.plan
        self._truth = truth.products[product].server
        weight = self._truth_of(np.eye(self.plan.inputs, dtype=np.int64))
        self.client = held.backend.client(self.plan).prepare(weight)

    def question(self, rows=3, seed=0) -> tuple[np.ndarray, bytes]:
        """Rows and the question that asks for their product."""
        half = 2 ** (self.plan.activation_bits - 1)
        x = np.random.default_rng(seed).integers(-half, half, (rows, self.plan.inputs))
        return x, self.client.encrypt(x).to_bytes()

    def is_right(self, x: np.ndarray, answer: bytes) -> bool:
        """Whether the answer decrypts to x W (for `glwe`, within 10 standard deviations of its noise)."""
        error = self.client.decrypt(self.backend.ciphertext_from_bytes(answer)) - self._truth_of(x)
        return bool(np.abs(error).max() <= 10 * self.plan.noise_std)

    def _truth_of(self, x: np.ndarray) -> np.ndarray:
        return self._truth.matmul(ClearMessage(x)).values

    def is_served(self, address: Address, tls=None) -> bool:
        """Whether a new client's question is answered rightly."""
        x, data = self.question()
        with RawClient(address, tls) as client:
            refusal = client.open()
            if refusal is None and self.client.public_material() is not None:
                refusal = client.accept(self.client.public_material().to_bytes())
            if refusal is not None:
                return False
            answer = client.multiply(client.question(data, self.product, rows=len(x)))
            client.stub.Close(messages.Goodbye(session_id=client.session_id), timeout=DEADLINE_S)
        return isinstance(answer, bytes) and self.is_right(x, answer)


def held_and_honest(product: str) -> tuple:
    """A `Held` of `packed` with one block of nano, and the client's side of one of its products."""
    held, truth = (
        hold(WorkerSpec(model="nano", backend=name, layers="0", activation_bits=8, weight_bits=8))
        for name in ("packed", "integer")
    )
    return held, Honest(held, truth, product)


def rows_of(data: bytes, numbers: int = 5) -> int:
    """How many rows a question says that it has. numbers: of its header; of `glwe`'s three, rows are the first."""
    start = 20 if numbers == 3 else 28
    return int.from_bytes(data[start : start + 8], "little")


def address_of(running) -> Address:
    """Where a worker in this process listens."""
    return Address("127.0.0.1", running.port)


def settled(service) -> bool:
    """Whether a service in this process comes to rest: no request and no message in memory."""
    end = time.monotonic() + SETTLED_S
    while time.monotonic() < end:
        if (service.budget.bytes, service.budget.requests) == (0, 0):
            return True
        time.sleep(0.01)
    return False


def relabelled(data: bytes, numbers: dict[int, int], count: int = 5) -> bytes:
    """A message whose header has other numbers (by position), and a right digest."""
    key_id, old, payload = unpack(data, count)
    new = tuple(numbers.get(i, number) % 2**64 for i, number in enumerate(old))
    return pack(payload, numbers=new, key_id=key_id)
