"""Messages that are not what they should be get the right status, and the worker serves an honest client afterwards."""

from __future__ import annotations

import os
import struct

import grpc
import numpy as np
import pytest
from prometheus_client import generate_latest
from raw_client import RawClient, address_of, held_and_honest, relabelled, settled

from private_lora.backends import load
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.settings import PROTOCOL_VERSION
from private_lora.network.worker.limits import Limits

PRODUCT = "model.layers.0.self_attn.o_proj forward"
OTHER = "model.layers.0.mlp.down_proj forward"
REPEATS = 3
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def honest():
    return held_and_honest(PRODUCT)


@pytest.fixture(scope="module")
def running(honest, local_worker):
    with local_worker(honest[0], Limits(message_bytes=2**22, repeats=REPEATS)) as worker:
        yield worker


@pytest.fixture
def client(running, honest):
    """A client with a session; whatever it did, an honest one is served afterwards and nothing is left in memory."""
    with RawClient(address_of(running)) as raw:
        assert raw.open() is None
        yield raw
        raw.stub.Close(messages.Goodbye(session_id=raw.session_id), timeout=5)
    assert honest[1].is_served(address_of(running))
    assert settled(running.service)


def test_another_protocol_version_is_refused_with_both(running, client):
    code, text = RawClient(address_of(running)).open(version=PROTOCOL_VERSION + 6)
    assert code == Code.FAILED_PRECONDITION
    assert f"version {PROTOCOL_VERSION} " in text
    assert f"version {PROTOCOL_VERSION + 6}:" in text


@pytest.mark.parametrize("session_id", [b"", b"\0" * 16, b"x" * 1000])
def test_an_unknown_session_is_refused(client, honest, session_id):
    _, data = honest[1].question()
    assert client.multiply(client.question(data, PRODUCT, session_id=session_id))[0] == Code.NOT_FOUND
    known, client.session_id = client.session_id, session_id
    assert client.accept(b"material")[0] == Code.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.Close(messages.Goodbye(session_id=session_id), timeout=5)
    assert caught.value.code() == Code.NOT_FOUND
    client.session_id = known


def streams(header_of, data):
    """Streams that are no header followed by as much data as it says, by what is wrong with them."""
    header, body = header_of(len(data)), messages.Part(data=data)
    empty, half = messages.Part(data=b""), messages.Part(data=data[: len(data) // 2])
    return {
        "nothing": [],
        "no header": [body],
        "an empty part first": [messages.Part(), header, body],
        "two headers": [header, header, body],
        "a header at the end": [header, body, header],
        "header alone": [header],
        "truncated": [header, half],
        "longer than announced": [header, body, messages.Part(data=b"1")],
        "all parts twice": [header, body, body],
        "empty data": [header, empty, body],
        "empty part": [header, messages.Part(), body],
        "a byte short": [header_of(len(data) + 1), body],
        "a byte long": [header_of(len(data) - 1), body],
    }


@pytest.mark.parametrize("wrong", streams(lambda size: messages.Part(), b"12345678"))
def test_streams_that_are_no_header_and_its_data_are_refused(client, honest, wrong):
    _, data = honest[1].question()
    # One row more than there are: a size that is beyond the rows is refused before the stream is read.
    code, text = client.multiply(streams(lambda size: client.header(size, PRODUCT, rows=4), data)[wrong])
    assert code == Code.INVALID_ARGUMENT
    assert "stream" in text


@pytest.mark.parametrize("size", [0, 2**22 + 1, 2**30, 2**63, 2**64 - 1])
def test_announced_sizes_beyond_the_limit_are_refused_before_the_data(client, honest, size):
    _, data = honest[1].question()
    code, text = client.multiply([client.header(size, PRODUCT), messages.Part(data=data)])
    assert code == Code.OUT_OF_RANGE
    assert f"a message of {size} bytes" in text


def packed_messages(honest):
    """Payloads that are no question for PRODUCT, by what is wrong with them."""
    held, one = honest
    _, data = one.question()
    answer = held.products[PRODUCT].server.matmul(held.backend.ciphertext_from_bytes(data)).to_bytes()
    digest = bytearray(data)
    digest[70] ^= 1
    numbers = {f"{name} of {value}": {i: value} for i, name in enumerate(("kind", "rows")) for value in (0, 1, 4, 2**63)}
    return {
        "another layer's": data,
        "an answer": answer,
        "a damaged digest": bytes(digest),
        "a cut": data[:-1],
        "another program's": b"GIF89a" + data[6:],
        "random": os.urandom(len(data)),
        "clear rows": load("integer").client(one.plan).encrypt(np.ones((1, one.plan.inputs), np.int64)).to_bytes(),
    } | {name: relabelled(data, changed) for name, changed in numbers.items()}


@pytest.mark.parametrize(
    "wrong",
    [
        "another layer's",
        "an answer",
        "a damaged digest",
        "a cut",
        "another program's",
        "random",
        "clear rows",
        "kind of 0",
        "kind of 1",
        "kind of 4",
        f"kind of {2**63}",
        "rows of 0",
        "rows of 1",
        "rows of 4",
        f"rows of {2**63}",
    ],
)
def test_payloads_that_are_no_question_for_the_product_are_refused(client, honest, wrong):
    product = OTHER if wrong == "another layer's" else PRODUCT  # with more inputs, so that its size is no reason
    code, text = client.multiply(client.question(packed_messages(honest)[wrong], product, rows=3))
    assert code == Code.INVALID_ARGUMENT
    assert text
    assert "announced" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "fields",
    [
        {"product": ""},
        {"product": "model.layers.9.o_proj forward"},
        {"product": "x" * 10000},
        {"request_id": b""},
        {"request_id": b"x" * 15},
        {"request_id": b"x" * 4096},
    ],
)
def test_unknown_products_and_ids_of_another_length_are_refused(client, honest, fields):
    _, data = honest[1].question()
    parts = client.question(data, **{"product": PRODUCT} | fields)
    assert client.multiply(parts)[0] == Code.INVALID_ARGUMENT


def test_a_replay_gets_the_same_answer_a_few_times_and_no_other(client, honest):
    _, data = honest[1].question()
    request_id = os.urandom(16)
    parts = client.question(data, PRODUCT, request_id=request_id)
    answers = {client.multiply(parts) for _ in range(REPEATS)}
    assert len(answers) == 1
    assert isinstance(answers.pop(), bytes)
    code, text = client.multiply(parts)
    assert code == Code.ALREADY_EXISTS
    assert f"{REPEATS} times" in text
    _, other = honest[1].question(seed=1)
    code, text = client.multiply(client.question(other, PRODUCT, request_id=request_id))
    assert code == Code.ALREADY_EXISTS
    assert "another question" in text


@pytest.mark.parametrize("method", ["Open", "Close", "Accept", "Multiply"])
def test_bytes_that_are_no_message_of_the_protocol_are_refused_however_often(client, method):
    call = client.channel.stream_stream(f"/private_lora.v1.Worker/{method}")
    for _ in range(60):  # more than a connection has streams at one time
        with pytest.raises(grpc.RpcError, match="none of this protocol") as caught:
            list(call(iter([b"\xff\xfe" * 8]), timeout=5))
        assert caught.value.code() == Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([]), timeout=5))
    assert caught.value.code() == Code.INVALID_ARGUMENT


def test_methods_that_there_are_not_are_refused(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary("/private_lora.v1.Worker/Missing")(b"", timeout=5)
    assert caught.value.code() == Code.UNIMPLEMENTED


def test_metrics_count_requests_by_method_and_status(running, client, honest):
    def counted(method, code):
        return running.service.metrics.registry.get_sample_value(
            "private_lora_worker_requests_total", {"method": method, "code": code}
        )

    _, data = honest[1].question()
    before = counted("Multiply", "OK") or 0
    client.multiply(client.question(data, PRODUCT))
    client.multiply(client.question(data, PRODUCT, session_id=b"x"))
    client.multiply(client.question(data[:-1], PRODUCT))
    client.multiply([client.header(0, PRODUCT)])
    assert settled(running.service)
    assert counted("Multiply", "OK") == before + 1
    assert all(counted("Multiply", code) for code in ("NOT_FOUND", "INVALID_ARGUMENT", "OUT_OF_RANGE"))
    text = generate_latest(running.service.metrics.registry).decode()
    for name in ("received_bytes_total", "sent_bytes_total", "product_seconds_bucket", "sessions", "message_memory_bytes"):
        assert f"private_lora_worker_{name}" in text


def test_public_material_that_nobody_needs_is_refused(client):
    code, text = client.accept(struct.pack("<4s", b"PLR1") + b"x" * 100)
    assert code == Code.INVALID_ARGUMENT
    assert "needs no public material" in text
