"""What a worker may send to a client, honest at first and then altered: a function of a seed and a number."""

from __future__ import annotations

import json
import random

import grpc
from google.protobuf.message import DecodeError
from mutations import INTERESTING, Mutator
from raw_client import relabelled

from private_lora.backends.contract import pack, unpack
from private_lora.network.client.connection import OPTIONS
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import PART_BYTES, parts_of

LARGEST_MESSAGE = dict(OPTIONS)["grpc.max_receive_message_length"]
NUMBERS = 5  # of a session's answer
SECONDS = (0.0, -1.0, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "\0", "\x1b[2J\x1b]0;title\x07", "\r\n" * 50, "x" * 100_000, "\u202e\u2028\ufeff", "%s%n{0}{x}")
TEXTS += ("CERTIFICATE_VERIFY_FAILED",)
CODES = [code for code in grpc.StatusCode if code != grpc.StatusCode.OK]


class Failure(grpc.RpcError):
    """A status, as gRPC raises it."""

    def __init__(self, code, details):
        super().__init__()
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


def parsed(kind, data: bytes):
    """A message from its bytes; what gRPC raises when they are none, or too many."""
    if len(data) > LARGEST_MESSAGE:
        raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max")
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Failure(grpc.StatusCode.INTERNAL, "Exception deserializing response!") from None


def failure(r: random.Random) -> Failure:
    return Failure(r.choice(CODES), r.choice((None, *TEXTS)))


class Answers:
    """Altered answers: parts as bytes, to be sent until the stream is closed; raises Failure for a status."""

    def __init__(self, seed: int):
        self._seed, self._mutator = seed, Mutator([("", b"\0" * 64)], seed, NUMBERS)
        self._kinds = {
            self._damaged: 20,
            self._relabelled: 15,
            self._other_ciphertext: 20,
            self._other_header: 20,
            self._other_order: 10,
            self._damaged_wire: 10,
            self._endless: 3,
            self._status: 7,
        }

    def of(self, number: int, answer: bytes):
        """An iterator over the parts of altered answer number so and so."""
        r = random.Random(f"{self._seed} {number}")
        return r.choices(list(self._kinds), list(self._kinds.values()))[0](r, answer)

    @staticmethod
    def _work(r):
        fields = {"seconds": r.choice(SECONDS)}
        for name in ("products", "encrypted_products", "int8_operations"):
            fields[name] = r.choice(INTERESTING)
        return messages.Work(**fields)

    def _parts(self, r, data):
        return [part.SerializeToString() for part in parts_of(data, work=self._work(r))]

    def _damaged(self, r, answer):
        yield from self._parts(r, self._mutator.damaged(r, answer))

    def _relabelled(self, r, answer):
        _, old, _ = unpack(answer, NUMBERS)
        changed = {i: Mutator.number(r, old[i]) for i in r.sample(range(NUMBERS), r.choice((1, 1, 1, 2, 3)))}
        yield from self._parts(r, relabelled(answer, changed, NUMBERS))

    def _other_ciphertext(self, r, answer):
        key_id, numbers, payload = unpack(answer, NUMBERS)
        data = bytearray(payload)
        for _ in range(r.choice((1, 1, 4, len(data)))):
            data[r.randrange(len(data))] = r.randrange(256)
        yield from self._parts(r, pack(bytes(data), numbers=numbers, key_id=key_id))

    def _other_header(self, r, answer):
        header, *rest = self._parts(r, answer)
        part = messages.Part.FromString(header)
        part.header.size = Mutator.number(r, part.header.size)
        if r.random() < 0.5:
            part.header.session_id, part.header.request_id = r.randbytes(r.choice((0, 16, 5000))), r.randbytes(16)
            part.header.product = r.choice(TEXTS)
        yield from (part.SerializeToString(), *rest)

    def _other_order(self, r, answer):
        header, *_ = self._parts(r, answer)
        size = r.randrange(len(answer) // 6, len(answer))
        parts = [header, *(messages.Part(data=answer[i : i + size]).SerializeToString() for i in range(0, len(answer), size))]
        kind = r.choice(("shuffle", "twice", "cut", "empty", "none"))
        if kind == "shuffle":
            r.shuffle(parts)
        elif kind == "twice":
            parts.insert(r.randrange(len(parts) + 1), r.choice(parts))
        elif kind == "cut":
            parts = parts[: r.randrange(len(parts))]
        elif kind == "empty":
            parts.insert(r.randrange(len(parts) + 1), r.choice((b"", messages.Part(data=b"").SerializeToString())))
        yield from parts if kind != "none" else ()

    def _damaged_wire(self, r, answer):
        parts = self._parts(r, answer)
        place = r.randrange(len(parts))
        parts[place] = self._mutator.damaged(r, parts[place])
        yield from parts

    def _endless(self, r, answer):
        yield self._parts(r, answer)[0]
        part = messages.Part(data=r.randbytes(r.choice((1, 64, len(answer))))).SerializeToString()
        if r.random() < 0.1:
            part = messages.Part(data=bytes(PART_BYTES)).SerializeToString()
        while True:
            yield part

    def _status(self, r, answer):
        if r.random() < 0.5:
            yield from self._parts(r, answer)[:1]
        raise failure(r)


class Welcomes:
    """Altered handshakes, as bytes; raises Failure for a status."""

    def __init__(self, honest: messages.Welcome, seed: int):
        self._honest, self._seed, self._mutator = honest, seed, Mutator([("", b"\0" * 64)], seed, NUMBERS)

    def of(self, number: int) -> bytes:
        """Altered handshake number so and so."""
        r = random.Random(f"{self._seed} w {number}")
        if r.random() < 0.03:
            raise failure(r)
        welcome = messages.Welcome()
        welcome.CopyFrom(self._honest)
        kinds = self._limits, self._session, self._settings, self._products, self._plan, self._plan, self._version
        for _ in range(r.choice((1, 1, 2, 3))):
            r.choice(kinds)(r, welcome)
        data = welcome.SerializeToString()
        return self._mutator.damaged(r, data) if r.random() < 0.3 else data

    @staticmethod
    def _version(r, welcome):
        welcome.protocol_version = r.choice(INTERESTING) % 2**32

    @staticmethod
    def _limits(r, welcome):
        welcome.largest_message = r.choice(INTERESTING)
        welcome.longest_deadline_s = r.choice(SECONDS)

    @staticmethod
    def _session(r, welcome):
        welcome.session_id = r.randbytes(r.choice((0, 1, 15, 16, 17, 64, 65, 100_000)))

    @staticmethod
    def _settings(r, welcome):
        name = r.choice(("model", "backend", "backend_options", "weight_quantizer", "constant_rows"))
        setattr(welcome.settings, name, r.choice(TEXTS))
        welcome.settings.activation_bits = r.choice((8, r.choice(INTERESTING) % 2**32))

    @staticmethod
    def _products(r, welcome):
        product = r.choice(welcome.products) if welcome.products else welcome.products.add()
        kind = r.choice(("name", "digest", "many", "none", "twice"))
        if kind == "name":
            product.name = r.choice(TEXTS)
        elif kind == "digest":
            product.weight_sha256 = r.randbytes(r.choice((0, 32, 5000)))
        elif kind == "none":
            del welcome.products[:]
        else:
            # Many: up to a little more than gRPC takes in one message.
            for _ in range(1 if kind == "twice" else min(300, 1 + LARGEST_MESSAGE // max(1, product.ByteSize()))):
                welcome.products.add().CopyFrom(product)

    @staticmethod
    def _plan(r, welcome):
        if not welcome.products:
            return
        product = r.choice(welcome.products)
        depth = r.choice((5, 100, 330, 480, 900, 990, 2000, 50_000))
        try:
            plan = dict(json.loads(product.plan))
        except (ValueError, TypeError, RecursionError):  # altered before
            plan = {}
        texts = ["", "{", "null", "[]", "1", "NaN", '"\\ud800"', "[" * depth + "]" * depth, "[" * depth, "9" * 5000]
        deep = '{"parameters":' * depth + "1" + "}" * depth
        inside = r.choice([*texts[2:8], "-1", "1e999", "-0", '"' + "y" * 20_000 + '"'])
        changed = json.dumps(plan | {r.choice(list(plan) or ["a"]): "@"}, sort_keys=True).replace('"@"', inside)
        other = json.dumps(plan | {"parameters": {"\x1b": -1, **{str(i): i for i in range(50)}}})
        product.plan = r.choice([*texts, deep, changed, changed, other])
