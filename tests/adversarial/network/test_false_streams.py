"""Workers whose streams or handshakes are none: cut, named, and asked no more."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from liars import (
    SETTINGS,
    Parts,
    address_of,
    asked_of,
    asker_of,
    liar_and_honest,
    lying,
    rows,
    streamed,
    truth,
    two_layers,
)

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.worker import service as service_module
from private_lora.network.worker.held import Held

MEGABYTE = b"x" * 2**20


def header_of(size):
    return messages.Part(header=messages.Header(size=size))


def endless(first):
    """A stream that begins like this and never ends; counts what was taken of it."""
    taken = []

    def parts():
        yield first
        while True:
            taken.append(1)
            yield messages.Part(data=MEGABYTE)

    return parts, taken


def finite(*parts):
    return (lambda: iter(parts)), []


def streams():
    some = messages.Part(data=b"some")
    return {
        "endless after a small size": endless(header_of(8)),
        "endless after a size that is too large": endless(header_of(2**62)),
        "endless without a header": endless(some),
        "a huge size alone": finite(header_of(2**64 - 1)),
        "a size alone": finite(header_of(100)),
        "no part": finite(),
        "two headers": finite(header_of(4), header_of(4), some),
        "empty parts": finite(header_of(4), messages.Part(data=b""), some),
        "neither header nor data": finite(messages.Part()),
        "too little": finite(header_of(5), some),
    }


@pytest.fixture
def own_streams(monkeypatch):
    """Lets answers be streams of their own."""
    honest = service_module.parts_of

    def parts_of(answer, **header):
        return answer.stream() if isinstance(answer, Parts) else honest(answer, **header)

    monkeypatch.setattr(service_module, "parts_of", parts_of)


@pytest.mark.parametrize("name", streams())
def test_streams_that_are_no_answer_are_cut_and_never_kept(name, own_streams, local_worker):
    parts, taken = streams()[name]
    with liar_and_honest(local_worker, lambda *_: streamed(parts)) as both, asker_of(both) as asker:
        x = rows(0)
        assert (asker.ask(x) == x @ asker.weight).all()
        assert "cannot be read" in asker.dropped[str(address_of(both[0]))]
        assert asker.place.counters.received_bytes < 2**23
        assert len(taken) < 32  # megabytes that left before the client hung up


@pytest.mark.parametrize("name", ["packed", "packed_approx", "glwe", "integer", "float"])
def test_no_answer_is_larger_than_what_the_client_takes(name):
    """And what it takes is not much larger: to the byte under `packed`."""
    backend = load(name)
    keys = None
    larger = () if name == "glwe" else ((3, 2049, 2), (8, 17, 2049))  # it takes milliseconds for every output value
    for inputs, outputs, count in ((40, 7, 1), (40, 7, 3), *larger):
        weight = np.random.default_rng(0).integers(-8, 8, (inputs, outputs))
        plan = backend.plan(weight, 7)
        client = backend.client(plan, keys).prepare(weight)
        keys = client.keys
        x = np.random.default_rng(1).integers(-8, 8, (count, inputs))
        size = len(backend.server(plan, weight).matmul(client.encrypt(x)).to_bytes())
        assert size <= client.largest_answer(count) <= (size if "packed" in name else 3 * size + 1024)


def test_glwe_refuses_what_is_no_answer_with_a_sentence():
    backend, weight = load("glwe"), np.ones((4, 5), np.int64)
    client = backend.client(backend.plan(weight, 7)).prepare(weight)
    question = client.encrypt(np.ones((1, 4), np.int64))
    answer = backend.server(client.plan, weight).matmul(question)
    assert np.abs(client.decrypt(answer) - 4).max() < 300
    for other in (question, replace(answer, columns=4), replace(answer, key_id=bytes(16))):
        with pytest.raises(ValueError, match="this "):
            client.decrypt(other)


CLAIMS = {
    "digest": ({"weight_sha256": bytes(32)}, "0000000000000000... where ours has"),
    "no plan": ({"plan": ""}, "its parameters have"),
    "garbage": ({"plan": "{{"}, "its parameters have"),
    "no mapping": ({"plan": "[1]"}, "its parameters have"),
    "nested": ({"plan": "[" * 100_000}, "its parameters have"),
    "plan": ({"plan": json.dumps({"backend": "packed"})}, "its parameters have"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_in_the_handshake_are_compared_before_anything_is_sent(name, local_worker):
    claims, text = CLAIMS[name]
    held = lying(two_layers(), truth)
    products = {n: replace(p, **claims) for n, p in held.products.items()}
    with local_worker(Held(SETTINGS, held.backend, products)) as running:
        with pytest.raises(UserError) as caught, asker_of([running]):
            pass
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        assert asked_of(running) == 0
