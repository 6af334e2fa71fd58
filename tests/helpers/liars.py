"""Workers that lie, one product that is enough to catch them, and what they get to see."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from private_lora.backends import load
from private_lora.crypto.bits import TiledBits
from private_lora.crypto.ring import LANES
from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire.security import Address
from private_lora.network.wire.settings import Settings, plan_json
from private_lora.network.worker.held import Held, HeldProduct
from private_lora.specs.quantization import Quantization
from private_lora.split.weights import product_weight

SETTINGS = Settings("sha256:1", "packed", "{}", 8, 8, "static_per_channel", "exact", True)
LAYER, OTHER_LAYER = "layer forward", "other layer forward"
INPUTS, OUTPUTS = 40, 21


@dataclass(frozen=True)
class Raw:
    """An answer that is these bytes, or these parts of a stream."""

    data: bytes

    def to_bytes(self) -> bytes:
        return self.data


class Parts(bytes):
    """Bytes that stand for a stream of their own."""

    stream = ()


def streamed(parts):
    """The lie that sends an answer's stream itself; parts: called for them."""
    data = Parts(b"-")
    data.stream = parts
    return Raw(data)


class Liar:
    """A server that changes each answer. asked: how often it was."""

    def __init__(self, honest, lie):
        self._honest, self._lie, self.asked = honest, lie, 0

    def __getattr__(self, name):
        return getattr(self._honest, name)

    def matmul(self, message):
        self.asked += 1
        return self._lie(message, self._honest.matmul(message))


def lying(held, lie):
    """The same worker, but for its answers."""
    products = {name: replace(p, server=Liar(p.server, lie)) for name, p in held.products.items()}
    return Held(held.settings, held.backend, products)


def asked_of(running):
    return sum(p.server.asked for p in running.service.held.products.values())


def weight_of(name):
    matrix = np.random.default_rng(len(name)).standard_normal((INPUTS, OUTPUTS)).astype(np.float32)
    return product_weight(matrix, name, Quantization("dynamic_per_token", "static_per_channel", 8, 8))


def two_layers(mask="session"):
    """What a worker of two products holds."""
    backend, products = load("packed", mask=mask), {}
    for name in (LAYER, OTHER_LAYER):
        weight = weight_of(name)
        plan = backend.plan(weight.values, 8)
        products[name] = HeldProduct(name, weight.digest(), plan_json(plan), backend.server(plan, weight.values))
    return Held(SETTINGS, backend, products)


@dataclass
class Asker:
    """A data owner with one product at workers."""

    place: RemotePlace
    client: object
    server: object
    weight: np.ndarray

    def ask(self, x):
        return self.place.product(self.client, self.server, x).y

    @property
    def dropped(self):
        return self.place.report()["dropped"]

    def forgive(self):
        """Ask all workers again."""
        self.dropped.clear()
        self.place._workers.caught.lies.clear()


@contextmanager
def asker_of(runnings, asking=None, patience=None, mask="session", tls=None, **options):
    """A client that has shaken hands with these workers and asks them, the first one first. options: of its `Workers`."""
    connections = [Connection(address_of(running), tls) for running in runnings]
    workers = Workers(connections, patience or Patience(30, 1), **options)
    place = RemotePlace(workers, asking or Asking())
    weight, backend = weight_of(LAYER), load("packed", mask=mask)
    plan = backend.plan(weight.values, 8)
    server = place.server(backend, plan, weight)
    try:
        workers.connect(SETTINGS, place._expected)
        yield Asker(place, backend.client(plan).prepare(weight.values), server, weight.values)
    finally:
        place.close()


def address_of(running):
    return Address("127.0.0.1", running.port)


@contextmanager
def liar_and_honest(serve, lie, mask="session"):
    """Two workers, of whom the first lies."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(serve(lying(two_layers(mask), tells))) for tells in (lie, truth))


def truth(_, answer):
    return answer


def rows(seed, count=64):
    return np.random.default_rng(seed).integers(-128, 128, (count, INPUTS))


def flipped(matrix: TiledBits, row: int, column: int, bit: int) -> TiledBits:
    """The same values but for one bit of one of them; see `crypto.bits` for where that is."""
    data, at, done = matrix.data.copy(), 0, 0
    for field in [8] * (matrix.bits // 8) + [f for f in (4, 2, 1) if matrix.bits & f]:
        shared = 8 // field
        if done <= bit < done + field:
            data[column // LANES, at + row // shared * LANES + column % LANES] ^= 1 << (field * (row % shared) + bit - done)
        at += -(-matrix.rows // shared) * LANES
        done += field
    return replace(matrix, data=data)


def flips_any_bit(chance):
    def lie(_, answer):
        sizes = answer.mask.data.size if hasattr(answer, "mask") else 0, answer.body.data.size
        at = chance.randrange(sum(sizes))
        part, at = ("mask", at) if at < sizes[0] else ("body", at - sizes[0])
        data = getattr(answer, part).data.copy()
        data.reshape(-1)[at] ^= 1 << chance.randrange(8)
        return replace(answer, **{part: replace(getattr(answer, part), data=data)})

    return lie


def of_shape(answer, rows, columns):
    heights = {"body": rows} | ({"mask": answer.mask.rows} if hasattr(answer, "mask") else {})
    return replace(answer, **{part: nothing(height, columns, getattr(answer, part).bits) for part, height in heights.items()})


def nothing(rows, columns, bits):
    return TiledBits(TiledBits.empty(rows, columns, bits).data * 0, rows, columns, bits)


def zeros(_, answer):
    return of_shape(answer, answer.body.rows, answer.body.columns)
