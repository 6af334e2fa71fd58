"""Workers whose streams or handshakes are none: cut, named, and asked no more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from liars import (
    LAYER,
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

from private_lora.errors import UserError
from private_lora.network import protocol_pb2 as messages
from private_lora.network import service as service_module
from private_lora.network.held import Held

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


def test_the_largest_answer_is_the_answer(local_worker):
    """What the client takes is bounded by what it asked for, to the byte."""
    with local_worker(two_layers()) as running, asker_of([running]) as asker:
        for count in (1, 5, 2048, 2049):
            message = asker.client.encrypt(rows(0, count))
            answer = running.service.held.products[LAYER].server.matmul(message)
            assert len(answer.to_bytes()) == asker.client.largest_answer(count)


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
