"""Messages to a worker that began as valid ones and were altered: a function of a seed and a number, but for session ids."""

from __future__ import annotations

import random

import numpy as np
from raw_client import relabelled, rows_of

from private_lora.backends.contract import pack, unpack
from private_lora.backends.packed.messages import SessionQuestion
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import parts_of
from private_lora.network.wire.settings import PROTOCOL_VERSION

INTERESTING = (0, 1, 2, 3, 31, 63, 64, 255, 1024, 4096, 2**16, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64 - 1)
WORKER = "/private_lora.v1.Worker"
OPEN, CLOSE, ACCEPT, MULTIPLY = (f"{WORKER}/{name}" for name in ("Open", "Close", "Accept", "Multiply"))
KNOWN_IDS = 64


def seeded_question(product, seed: int, rows: int) -> bytes:
    """What looks like a question for a product of `packed`, and is a function of the seed."""
    generator, p = np.random.default_rng(seed), product.server.parameters
    digits = generator.integers(-128, 128, (p.body_planes, rows, product.server.plan.inputs), np.int8)
    return SessionQuestion(generator.bytes(16), p.sent, digits).to_bytes()


class Mutator:
    """Makes altered calls (a method, and the parts that its stream has as bytes) from valid questions.

    questions: name of a product, bytes of a question for it. session_id: to be set; of an open session. numbers: how many a
    question's own header has.
    """

    def __init__(self, questions: list[tuple[str, bytes]], seed: int, numbers: int):
        self._questions, self._seed, self._numbers = questions, seed, numbers
        self.session_id = b""
        self._rows = {product: rows_of(data, numbers) for product, data in questions}
        self._kinds = {
            self._damaged: 25,
            self._relabelled: 20,
            self._other_ciphertext: 3,
            self._other_header: 18,
            self._other_order: 12,
            self._damaged_wire: 16,
            self._other_method: 6,
        }

    def call(self, number: int) -> tuple[str, list[bytes]]:
        """Altered call number so and so."""
        r = random.Random(f"{self._seed} {number}")
        make = r.choices(list(self._kinds), list(self._kinds.values()))[0]
        return make(r, *r.choice(self._questions))

    def _parts(self, r, product, data, **fields) -> list[bytes]:
        given = {"session_id": self.session_id, "request_id": r.randbytes(16), "product": product} | fields
        given.setdefault("rows", self._rows.get(product, 1))
        return [part.SerializeToString() for part in parts_of(data, **given)]

    def _damaged(self, r, product, data):
        """Its bytes altered anywhere, so that the digest is wrong."""
        return MULTIPLY, self._parts(r, product, self.damaged(r, data))

    def _relabelled(self, r, product, data):
        """Numbers of its header altered, with a right digest."""
        _, old, _ = unpack(data, self._numbers)
        changed = {i: self.number(r, old[i]) for i in r.sample(range(self._numbers), r.choice((1, 1, 1, 2, 3)))}
        return MULTIPLY, self._parts(r, product, relabelled(data, changed, self._numbers))

    def _other_ciphertext(self, r, product, data):
        """Its ciphertext altered, with a right digest."""
        key_id, numbers, payload = unpack(data, self._numbers)
        return MULTIPLY, self._parts(r, product, pack(self.damaged(r, bytes(payload)), numbers=numbers, key_id=key_id))

    def _other_header(self, r, product, data):
        """Fields of the stream's header altered."""
        fields = {}
        for name in r.sample(("session_id", "request_id", "product", "rows"), r.choice((1, 1, 2, 3))):
            known = {"session_id": self.session_id, "product": product.encode()}
            if name == "rows":
                fields[name] = self.number(r, self._rows[product])
            elif name == "request_id":
                fields[name] = r.randrange(KNOWN_IDS).to_bytes(r.choice((16, 16, 16, 15, 400)), "big")
            else:
                fields[name] = r.choice((self.damaged(r, known[name]), r.randbytes(r.randrange(40)), b""))
        fields.setdefault("rows", self._rows[product])
        if "product" in fields:
            fields["product"] = r.choice((self._questions[0][0], fields["product"].decode(errors="replace")))
        parts = self._parts(r, fields.pop("product", product), data, **fields)
        if r.random() < 0.5:
            header = messages.Part.FromString(parts[0])
            header.header.size = self.number(r, header.header.size)
            parts[0] = header.SerializeToString()
        return MULTIPLY, parts

    def _other_order(self, r, product, data):
        """Cut into small parts that come in another order, twice or not at all."""
        header, *_ = self._parts(r, product, data)
        size = r.randrange(len(data) // 6, len(data))
        cut = [messages.Part(data=data[i : i + size]).SerializeToString() for i in range(0, len(data), size)]
        parts = [header, *cut]
        for _ in range(r.choice((1, 1, 2))):
            place = r.randrange(len(parts) + 1)
            kind = r.choice(("swap", "twice", "drop", "empty", "cut"))
            if kind == "swap":
                r.shuffle(parts)
            elif kind == "twice":
                parts.insert(place, r.choice([header, *cut]))
            elif kind == "empty":
                parts.insert(place, messages.Part(data=b"").SerializeToString())
            elif len(parts) > 1:
                parts = parts[:place] if kind == "cut" else parts[:place] + parts[place + 1 :]
        return MULTIPLY, parts

    def _damaged_wire(self, r, product, data):
        """Bytes of the protobuf messages altered."""
        parts = self._parts(r, product, data)
        place = r.randrange(len(parts)) if r.random() < 0.7 else 0
        parts[place] = self.damaged(r, parts[place])
        return MULTIPLY, parts

    def _other_method(self, r, product, data):
        """Handshakes, goodbyes, public material and health checks, altered or out of place."""
        hello = messages.Hello(protocol_version=PROTOCOL_VERSION).SerializeToString()
        goodbye = messages.Goodbye(session_id=r.randbytes(16)).SerializeToString()
        question = self._parts(r, product, data)
        method = r.choice((OPEN, CLOSE, ACCEPT, MULTIPLY, "/grpc.health.v1.Health/Check"))
        valid = r.choice(([hello], [goodbye], question, [], [hello, hello], [b"\n\x00"]))
        return method, [self.damaged(r, part) if r.random() < 0.7 else part for part in valid]

    def damaged(self, r: random.Random, data: bytes) -> bytes:
        """The bytes with flipped bits, other bytes, cut, longer, or with a piece of themselves or of another message inside."""
        out = bytearray(data or b"\0")
        kind = r.choice(("bits", "bits", "bytes", "cut", "longer", "piece", "splice"))
        if kind in ("bits", "bytes"):
            for _ in range(r.choice((1, 1, 1, 2, 8, 64))):
                place = r.randrange(len(out)) if r.random() < 0.5 else min(len(out) - 1, r.randrange(140))
                out[place] = out[place] ^ (1 << r.randrange(8)) if kind == "bits" else r.randrange(256)
        elif kind == "cut":
            start, stop = sorted((r.randrange(len(out) + 1), r.randrange(len(out) + 1)))
            out = out[:stop] if r.random() < 0.5 else out[:start] + out[stop:]
        elif kind == "longer":
            out += r.randbytes(r.choice((1, 2, 8, 1000)))
        else:
            source = data if kind == "piece" else r.choice(self._questions)[1]
            start, length = r.randrange(len(source) + 1), r.randrange(1, 200)
            place = r.randrange(len(out) + 1)
            out[place : place + r.choice((0, length))] = source[start : start + length]
        return bytes(out)

    @staticmethod
    def number(r: random.Random, old: int) -> int:
        """Another number in place of one."""
        near = (old + 1, old - 1, 2 * old, old // 2, old ^ (1 << r.randrange(64)))
        return r.choice((r.choice(INTERESTING), r.choice(near), r.getrandbits(r.randrange(1, 65)))) % 2**64
