"""Altered messages for a layer of real size (2,048 inputs, 8,192 outputs): refused by their header, before memory or work."""

import random
import tracemalloc

import numpy as np
import pytest
from mutations import INTERESTING
from raw_client import relabelled

from private_lora.backends import load
from private_lora.backends.contract import pack, unpack
from private_lora.backends.packed.messages import SessionAnswer, SessionQuestion, message_from_bytes
from private_lora.crypto.bits import TiledBits

INPUTS, OUTPUTS, ROWS = 2048, 8192, 4
MESSAGES = 1500
# What parsing may hold beside the message: its digits unpacked, and a little.
TIMES, SPARE_BYTES = 3, 2**18


@pytest.fixture(scope="module")
def layer():
    """Backend, client and server of the layer, by kind of mask; the session's hint is not made."""
    weight, found = np.random.default_rng(0).integers(-128, 128, (INPUTS, OUTPUTS), np.int8), {}
    for mask in ("session", "fresh"):
        backend = load("packed", mask=mask)
        plan = backend.plan(weight, 8)
        found[mask] = backend.client(plan), backend.server(plan, weight)
    return found


def messages_of(layer, mask):
    """A question, and what looks like its answer, with how many numbers their headers have."""
    client, _ = layer[mask]
    p, generator = client.parameters, np.random.default_rng(1)
    if mask == "fresh":
        return [client.encrypt(generator.integers(-128, 128, (ROWS, INPUTS))).to_bytes()], 8
    digits = generator.integers(-128, 128, (p.body_planes, ROWS, INPUTS), np.int8)
    body = TiledBits.empty(ROWS, OUTPUTS, p.body_bits)
    body.data[:] = generator.integers(0, 256, body.data.shape)
    return [m.to_bytes() for m in (SessionQuestion(bytes(16), p.sent, digits), SessionAnswer(bytes(16), p.sent, body))], 5


def altered(r: random.Random, data: bytes, count: int) -> bytes:
    """Other numbers in the header, or a payload cut or longer, always with a right digest."""
    key_id, numbers, payload = unpack(data, count)
    if r.random() < 0.3:
        cut = bytes(payload[: r.randrange(len(payload))]) + r.randbytes(r.choice((0, 1, 64)))
        return pack(cut, numbers=numbers, key_id=key_id)
    places = r.sample(range(count), r.choice((1, 1, 2, 3)))
    near = [r.choice((numbers[i] + 1, 2 * numbers[i], numbers[i] // 2)) for i in places]
    return relabelled(data, {i: r.choice((r.choice(INTERESTING), n)) for i, n in zip(places, near, strict=True)}, count)


def parsed(data: bytes, client, server) -> bool:
    """Whether a message has a right form; then both sides refuse it, unless it is another question as good as any."""
    try:
        message = message_from_bytes(data)
    except ValueError:
        return False
    assert message.to_bytes()[:20] == data[:20]
    if "Question" in type(message).__name__ and message.parameters == client.parameters.sent:
        return True  # of another number of rows
    for take in (server.matmul, client.decrypt):
        with pytest.raises(ValueError):
            take(message)
    return True


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_altered_messages_of_a_real_layer_are_refused_in_little_memory(mask, layer):
    valid, count = messages_of(layer, mask)
    r, well_formed = random.Random(mask), 0
    for _ in range(MESSAGES // 5):  # what is compiled and loaded at its first use is no message's memory
        parsed(altered(r, r.choice(valid), count), *layer[mask])
    tracemalloc.start()
    try:
        for _ in range(MESSAGES):
            data = altered(r, r.choice(valid), count)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            well_formed += parsed(data, *layer[mask])
            assert tracemalloc.get_traced_memory()[1] - before < TIMES * len(data) + SPARE_BYTES
    finally:
        tracemalloc.stop()
    assert 0 < well_formed < 0.2 * MESSAGES
    assert layer[mask][1].counters.products == 0
