"""Serialized objects of concrete-ml-extensions reach its own code only when every number around the ciphertexts is right."""

from __future__ import annotations

import numpy as np
import pytest
from slow_tests import slow

from private_lora.backends import load
from private_lora.backends.contract import pack, unpack
from private_lora.backends.glwe.layout import check_answer, check_key, check_question
from private_lora.network.worker.limits import Limits

OTHERS = (0, 1, 2, 2047, 2049, 2**16, 2**27, 2**31, 2**40, 2**63, 2**64 - 1)


def integers(seed, shape, half):
    return np.random.default_rng(seed).integers(-half, half, shape)


@pytest.fixture(scope="module")
def keys():
    weight = np.ones((1, 1), np.int64)
    backend = load("glwe")
    return backend.client(backend.plan(weight, 7)).keys


def exchanged(keys, rows, inputs, outputs):
    """Payloads of a question and its answer, and the parameters."""
    backend, weight = load("glwe"), integers(0, (inputs, outputs), 2)
    plan = backend.plan(weight, 7)
    question = backend.client(plan, keys).encrypt(integers(1, (rows, inputs), 64))
    answer = backend.server(plan, weight).matmul(question)
    return *(bytes(unpack(message.to_bytes(), 3)[2]) for message in (question, answer)), plan.parameters


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (3, 20, 7), (1, 2048, 2), (2, 2049, 3), slow(1, 5, 2050)])
def test_what_the_extension_writes_is_accepted_for_its_own_sizes_alone(keys, rows, inputs, outputs):
    question, answer, parameters = exchanged(keys, rows, inputs, outputs)
    check_question(question, rows, inputs, parameters)
    check_answer(answer, rows, outputs, parameters)
    for check, payload, columns in ((check_question, question, inputs), (check_answer, answer, outputs)):
        for sizes in ((rows + 1, columns), (rows, columns + 1), (2**63, columns), (rows, 2**64 - 1), (2**64 - 1, 2**64 - 1)):
            with pytest.raises(ValueError, match="concrete-ml-extensions"):
                check(payload, *sizes, parameters)
        for cut in (payload[:-8], payload[:-1], payload + bytes(8), b""):
            with pytest.raises(ValueError, match="sizes ask for"):
                check(cut, rows, columns, parameters)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (3, 20, 7), (2, 2049, 3), slow(2, 5, 2050)])
def test_the_bytes_that_a_worker_reserves_are_those_of_question_and_answer(keys, rows, inputs, outputs):
    backend, weight = load("glwe"), integers(0, (inputs, outputs), 2)
    plan = backend.plan(weight, 7)
    client, server = backend.client(plan, keys), backend.server(plan, weight)
    question = client.encrypt(integers(1, (rows, inputs), 64))
    answer = len(server.matmul(question).to_bytes())
    assert (server.cost(rows).question, server.cost(rows).answer) == (len(question.to_bytes()), answer)
    assert client.largest_answer(rows) == answer


def test_a_turn_is_bounded_by_rows_that_cannot_be_stopped(keys):
    backend, one_value, rows = load("glwe"), 2**34, {}
    for columns in (1, 4, 64):
        weight = integers(0, (5, columns), 2)
        rows[columns] = Limits(turn_operations=64 * one_value).largest_rows(backend.server(backend.plan(weight, 7), weight))
    assert rows == {1: 64, 4: 16, 64: 1}


def altered(payload, place, value):
    return payload[: 8 * place] + value.to_bytes(8, "little") + payload[8 * place + 8 :]


def numbers_of(first, second):
    """Places of the words that two payloads of the same sizes have in common: none of them is ciphertext."""
    words = [np.frombuffer(payload, np.uint64) for payload in (first, second)]
    return np.flatnonzero(words[0] == words[1])


@pytest.mark.parametrize("kind", ["question", "answer"])
def test_every_number_around_the_ciphertexts_is_compared(keys, kind):
    rows, inputs, outputs = 2, 2049, 3
    index, columns, check = (0, inputs, check_question) if kind == "question" else (1, outputs, check_answer)
    *messages, parameters = exchanged(keys, rows, inputs, outputs)
    payload, other = messages[index], exchanged(keys, rows, inputs, outputs)[index]
    places = numbers_of(payload, other)
    assert len(places) == (1 + 2 * (2 + 2 * 9) + 2 if kind == "question" else 1 + 2 * (1 + 9))
    for place in places:
        known = int.from_bytes(payload[8 * place : 8 * place + 8], "little")
        for value in {*OTHERS, known ^ 1, known ^ 2**63, (known + 1) % 2**64} - {known}:
            with pytest.raises(ValueError, match="sizes and parameters"):
                check(altered(payload, int(place), value), rows, columns, parameters)


def test_every_number_around_a_packing_key_is_compared(keys):
    payload = bytearray(bytes(keys.public.packing_key.serialize()))
    parameters = exchanged(keys, 1, 1, 1)[2]
    check_key(memoryview(payload), parameters)
    words = np.frombuffer(payload, np.uint64)
    for place in (0, *range(len(words) - 9, len(words))):
        known = int(words[place])
        for value in {*OTHERS, known ^ 1} - {known}:
            words[place] = value
            with pytest.raises(ValueError, match="sizes and parameters"):
                check_key(memoryview(payload), parameters)
        words[place] = known
    with pytest.raises(ValueError, match="sizes ask for"):
        check_key(memoryview(payload)[:-8], parameters)


def test_messages_that_say_other_sizes_are_refused_by_the_backend(keys):
    backend, weight = load("glwe"), integers(0, (20, 3), 2)
    plan = backend.plan(weight, 7)
    data = backend.client(plan, keys).encrypt(integers(1, (2, 20), 64)).to_bytes()
    key_id, numbers, payload = unpack(data, 3)
    for changed in ((0, 20, 0), (2, 0, 0), (3, 20, 0), (2, 21, 0), (2, 20, 1), (2**64 - 1, 2**64 - 1, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match=r"ciphertext|concrete-ml-extensions"):
            backend.ciphertext_from_bytes(pack(payload, numbers=changed, key_id=key_id))
    assert backend.ciphertext_from_bytes(pack(payload, numbers=numbers, key_id=key_id)).rows == 2


def test_a_key_for_another_device_is_refused(keys):
    data = keys.public.to_bytes()
    key_id, _, payload = unpack(data, 1)
    with pytest.raises(ValueError, match="not for cpu"):
        load("glwe").public_material_from_bytes(pack(payload, numbers=(1,), key_id=key_id))
    assert load("glwe").public_material_from_bytes(data).key_id == key_id
