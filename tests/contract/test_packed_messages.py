"""Messages of `packed` that are damaged, relabelled or beyond a security cap are refused before anything is computed."""

import struct
import tracemalloc

import numpy as np
import pytest

from private_lora.backends import load
from private_lora.backends.contract import pack, unpack


def integers(seed, shape):
    return np.random.default_rng(seed).integers(-128, 128, shape)


MASKS = ["session", "fresh"]
NUMBERS = {
    "session": ["kind", "rows", "columns", "bits up", "bits down"],
    "fresh": ["kind", "rows", "columns", "ring size", "log2_q", "dropped bits", "mask bits", "body bits"],
}
KINDS = {"session": (3, 4), "fresh": (1, 2)}


def messages(mask, name="packed"):
    weight, backend = integers(1, (40, 7)), load(name, mask=mask)
    plan = backend.plan(weight, 8)
    client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
    question = client.encrypt(integers(0, (3, 40)))
    return backend, client, server, {"question": question.to_bytes(), "answer": server.matmul(question).to_bytes()}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["question", "answer"])
def test_every_altered_bit_cut_or_addition_is_refused(mask, kind):
    backend, _, _, data = messages(mask)
    data, generator = data[kind], np.random.default_rng(0)
    # One bit of each byte up to the end of the digest, then anywhere.
    header = [8 * byte for byte in range(36 + 8 * len(NUMBERS[mask]))]
    for bit in [*header, *generator.integers(0, 8 * len(data), 200)]:
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ValueError, match=r"protocol version|altered"):
            backend.ciphertext_from_bytes(bytes(altered))
    for damaged in (
        *(data[:n] for n in (0, 3, 20, 59, 60, 75, 76, 83, 84, 99, 100, 200, len(data) - 1)),
        data + b"\0",
        data + data,
    ):
        with pytest.raises(ValueError, match=r"protocol version|cut short"):
            backend.ciphertext_from_bytes(damaged)


def relabelled(mask, data, position, value):
    """The same payload under a header that says otherwise, with a digest that is right."""
    key_id, numbers, payload = unpack(data, len(NUMBERS[mask]))
    numbers = [*numbers[:position], value % 2**64, *numbers[position + 1 :]]
    return pack(payload, numbers=tuple(numbers), key_id=key_id)


@pytest.mark.parametrize("kind", ["question", "answer"])
@pytest.mark.parametrize(("mask", "position"), [(mask, i) for mask in MASKS for i in range(len(NUMBERS[mask]))])
def test_other_numbers_in_the_header_are_refused_before_anything_is_computed(mask, kind, position):
    backend, client, server, data = messages(mask)
    _, numbers, _ = unpack(data[kind], len(NUMBERS[mask]))
    value = numbers[position]
    tracemalloc.start()
    for other in {0, 1, 2, 3, value - 1, value + 1, 2 * value, value // 2, 54, 63, 1024, 4096, 2**31, 2**63, 2**64 - 1} - {
        value
    }:
        with pytest.raises(ValueError, match=r"\w+ \w+ \w+") as caught:
            message = backend.ciphertext_from_bytes(relabelled(mask, data[kind], position, other))
            server.matmul(message) if kind == "question" else client.decrypt(message)
        assert "\n" not in str(caught.value)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
    # What was refused has cost no key.
    assert len(client.keys.secret) == 1


@pytest.mark.parametrize("kind", ["question", "answer"])
def test_parameters_beyond_a_security_cap_are_refused_as_such(kind):
    mask = "fresh"  # a session's messages say nothing of ring and modulus: the plan's alone count
    backend, _, _, data = messages(mask)
    with pytest.raises(ValueError, match="matzov 128-bit security cap for N = 2048"):
        backend.ciphertext_from_bytes(relabelled(mask, data[kind], 4, 54))
    with pytest.raises(ValueError, match="matzov 128-bit security cap for N = 1024"):
        backend.ciphertext_from_bytes(relabelled(mask, data[kind], 3, 1024))
    with pytest.raises(ValueError, match="ring size 512 is none of"):
        backend.ciphertext_from_bytes(relabelled(mask, data[kind], 3, 512))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["question", "answer"])
@pytest.mark.parametrize("position", [1, 2], ids=["rows", "columns"])
def test_sizes_that_the_payload_does_not_have_are_refused_as_such(mask, kind, position):
    backend, _, _, data = messages(mask)
    for other in (100, 2**40, 2**64 - 1):
        with pytest.raises(ValueError, match=rf"this {kind} holds \d+ bytes of ciphertext where its sizes ask for \d+$"):
            backend.ciphertext_from_bytes(relabelled(mask, data[kind], position, other))


@pytest.mark.parametrize("mask", MASKS)
def test_two_changed_numbers_that_keep_the_size_are_refused_by_the_server(mask):
    backend, _, server, data = messages(mask)
    key_id, numbers, payload = unpack(data["question"], len(NUMBERS[mask]))
    kind, rows, columns, *sent = numbers
    for swapped in (
        (2 * rows, columns // 2),
        (columns, rows),
        (1, 3 * 64),
        (1, rows * columns),
        (rows, columns + 1),
        (rows, 64),
    ):
        try:
            message = backend.ciphertext_from_bytes(pack(payload, numbers=(kind, *swapped, *sent), key_id=key_id))
        except ValueError:
            continue
        with pytest.raises(ValueError, match="no question of rows of 40 values"):
            server.matmul(message)


@pytest.mark.parametrize("kind", ["question", "answer"])
def test_bits_of_a_session_that_no_modulus_has_are_refused(kind):
    backend, _, _, data = messages("session")
    for position, bits in ((3, 63), (3, 2**32), (3, 0), (4, 0), (4, 62), (4, 2**63)):
        with pytest.raises(ValueError, match="no message of a session"):
            backend.ciphertext_from_bytes(relabelled("session", data[kind], position, bits))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["packed", "packed_approx"])
def test_messages_under_the_other_kind_of_mask_are_refused(mask, name):
    _, client, server, _ = messages(mask, name)
    backend, _, _, data = messages(MASKS[1 - MASKS.index(mask)], name)
    question, answer = (backend.ciphertext_from_bytes(data[kind]) for kind in ("question", "answer"))
    with pytest.raises(ValueError, match="no question of rows of 40 values"):
        server.matmul(question)
    with pytest.raises(ValueError, match="no answer for a layer of 7 outputs"):
        client.decrypt(answer)
    assert len(client.keys.secret) == 1


@pytest.mark.parametrize("mask", MASKS)
def test_a_message_says_nothing_but_what_it_must(mask):
    _, client, _, data = messages(mask)
    count = len(NUMBERS[mask])
    for kind, message, columns in zip(KINDS[mask], data.values(), (40, 7), strict=True):
        assert struct.unpack(f"<{count}Q", message[20 : 20 + 8 * count]) == (kind, 3, columns, *client.parameters.sent)
    # 24 bits of each value, in whole tiles or not, and no scales of rows.
    expected = {"fresh": 100 + 32 + 2 * 3 * 3 * 32, "session": 76 + 3 * 3 * 40}
    assert len(messages(mask, "packed_approx")[3]["question"]) == expected[mask]
