"""Questions under a session's mask: the same integers as fresh masks give at any number of rows, and no byte too many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_tests import slow_but

from private_lora.backends import load
from private_lora.backends.packed.messages import SessionQuestion, message_from_bytes
from private_lora.crypto.bits import pack_flat, tile_count, unpack_flat
from private_lora.crypto.pads import SLOTS

HEADER = 4 + 16 + 8 * 5 + 16
ROWS = (1, 2, 7, 8, 9, SLOTS - 1, SLOTS, SLOTS + 1, 2048, 2049)


def integers(seed, shape, bits):
    """Random integers among which the smallest is: `bits` bits are needed, not fewer."""
    values = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    values.flat[-1] = -(2 ** (bits - 1))
    return values


def parties(weight, bits, name="packed", **options):
    backend = load(name, **options)
    plan = backend.plan(weight, bits)
    return backend.client(plan).prepare(weight), backend.server(plan, weight)


def answered(client, server, x):
    return client.decrypt(server.matmul(client.encrypt(x)))


@pytest.mark.parametrize("rows", ROWS)
def test_session_is_fresh_is_integer(rows):
    x, weight = integers(0, (rows, 33), 8), integers(1, (33, 5), 8)
    answers = [answered(*parties(weight, 8, mask=mask), x) for mask in ("session", "fresh")]
    answers.append(answered(*parties(weight, 8, "integer"), x))
    for y in answers:
        np.testing.assert_array_equal(y, x @ weight)


BITS = st.integers(2, 16)


@given(st.integers(0, 2**32 - 1), BITS, BITS, st.sampled_from([1, 2, 7, 8, 9, 40]))
@settings(max_examples=60)
def test_every_pair_of_bits_is_exact(seed, activation_bits, weight_bits, rows):
    x, weight = integers(seed, (rows, 21), activation_bits), integers(seed + 1, (21, 3), weight_bits)
    np.testing.assert_array_equal(answered(*parties(weight, activation_bits), x), x @ weight)


@given(
    st.integers(0, 2**32 - 1), st.lists(st.sampled_from(["ask", "ask large", "open", "open", "forget", "wrong"]), max_size=30)
)
@settings(max_examples=25)
def test_questions_of_any_size_are_opened_in_any_order_forgotten_or_asked_again(seed, steps):
    weight, generator = integers(1, (20, 6), 8), np.random.default_rng(seed)
    client, server = parties(weight, 8)
    waiting, slots, kept = [], set(), []

    def ask(x):
        question = client.encrypt(x)
        for pad, taken in client.keys.secret[question.question_id].slots:
            kept.append(pad)  # so that no other one gets its id
            used = {(id(pad), slot) for slot in range(taken.start, taken.stop)}
            assert not used & slots
            slots.update(used)
        return x, question, server.matmul(question)

    for step in ["ask", *steps, "ask", *["open"] * len(steps), "open"]:
        if step.startswith("ask"):
            waiting.append(ask(integers(seed, (int(generator.integers(1, 1200 if "large" in step else 60)), 20), 8)))
        elif waiting:
            x, question, answer = waiting.pop(int(generator.integers(len(waiting))))
            if step == "forget":
                client.forget(question)
                with pytest.raises(ValueError, match="another key"):
                    client.decrypt(answer)
                x, question, answer = ask(x)  # the same rows, in slots of their own
            if step == "wrong":
                answer.body.data[:] ^= 0x5A
                client.decrypt(answer)
                x, question, answer = ask(x)
            np.testing.assert_array_equal(client.decrypt(answer), x @ weight)
            with pytest.raises(ValueError, match="decrypted before"):
                client.decrypt(answer)
    assert len(client.keys.secret) == len(waiting)
    for pad, taken in (part for key in client.keys.secret.values() for part in key.slots):
        assert not pad.low[taken].any()


def test_getting_ready_changes_nothing_and_is_counted_apart():
    x, weight = integers(0, (600, 20), 8), integers(1, (20, 6), 8)
    client, server = parties(weight, 8)
    question = client.encrypt(x)
    for _ in range(2):
        client.get_ready(question)
    np.testing.assert_array_equal(client.decrypt(server.matmul(question)), x @ weight)
    assert client.offline.rows == 2 * SLOTS


def session_question(rows, columns, bits, seed=0):
    planes = -(-bits // 8)
    digits = np.random.default_rng(seed).integers(-128, 128, (planes, rows, columns)).astype(np.int8)
    unused = 8 * planes - bits
    digits[-1] = (digits[-1] << unused) >> unused
    return SessionQuestion(bytes(range(16)), (bits, min(bits, 30)), digits)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (1, 33), (5, 64), (200, 31)])
@pytest.mark.parametrize("bits", [*range(1, 18), *slow_but((33, 36, 39, 40), range(25, 63))])
def test_a_question_takes_the_bits_that_it_has(shape, bits):
    question = session_question(*shape, bits)
    data, values = question.to_bytes(), shape[0] * shape[1]
    assert question.byte_count == len(data)
    top = bits - 8 * (len(question.digits) - 1)
    fields = [8] if top == 8 else [field for field in (4, 2, 1) if top & field]
    # Whole bytes of all but the last byte plane; of that, fields of 4, 2 and 1 bits, each filled up to a byte.
    assert len(data) == HEADER + (len(question.digits) - 1) * values + sum(-(-values * field // 8) for field in fields)
    assert len(data) - HEADER < values * bits / 8 + 3
    again = message_from_bytes(data)
    np.testing.assert_array_equal(again.digits, question.digits)
    assert (again.question_id, again.parameters, again.to_bytes()) == (question.question_id, question.parameters, data)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 9, 4096, 4099])
def test_flat_bits_come_back_with_their_sign(bits, count):
    values = np.random.default_rng(count).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count).astype(np.int8)
    out = np.full(count, 99, np.int8)
    unpack_flat(pack_flat(values, bits), bits, out)
    np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (3, 7, 5), (9, 40, 33)])
@pytest.mark.parametrize("activation_bits", [2, 3, 5, 8, 11, 13, 16])
@pytest.mark.parametrize("weight_bits", [2, 8, 16])
def test_wire_bits_are_those_of_the_parameters(rows, inputs, outputs, activation_bits, weight_bits):
    x, weight = integers(0, (rows, inputs), activation_bits), integers(1, (inputs, outputs), weight_bits)
    client, server = parties(weight, activation_bits)
    question, p = client.encrypt(x), client.parameters
    answer = server.matmul(question)
    up, down = len(question.to_bytes()) - HEADER, len(answer.to_bytes()) - HEADER
    assert (question.byte_count, answer.byte_count) == (up + HEADER, down + HEADER)
    assert rows * inputs * p.upload_bits / 8 <= up < rows * inputs * p.upload_bits / 8 + 3
    columns = 32 * tile_count(outputs * (1 if weight_bits <= 8 else 2))
    assert rows * columns * p.body_bits / 8 <= down < rows * columns * p.body_bits / 8 + 3 * columns
    assert answer.byte_count == client.largest_answer(rows)
    y = client.decrypt(message_from_bytes(server.matmul(message_from_bytes(question.to_bytes())).to_bytes()))
    np.testing.assert_array_equal(y, x @ weight)


@pytest.mark.parametrize("name", ["packed", "packed_approx"])
def test_rows_cost_as_much_alone_as_together(name):
    weight = integers(1, (40, 64), 8)
    client, server = parties(weight, 8, name)
    lengths = {rows: client.encrypt(integers(0, (rows, 40), 8)).byte_count - HEADER for rows in (8, 16, 800)}
    assert lengths[800] == 50 * lengths[16] == 100 * lengths[8]
    answers = {rows: server.matmul(client.encrypt(integers(0, (rows, 40), 8))).byte_count - HEADER for rows in (8, 800)}
    assert answers[800] == 100 * answers[8]


@pytest.mark.parametrize("name", ["packed", "packed_approx"])
def test_the_same_rows_have_unrelated_bytes_each_time(name):
    client, _ = parties(integers(1, (40, 6), 8), 8, name)
    x = np.full((400, 40), 77)
    first, second = (client.encrypt(x).digits for _ in range(2))
    for a, b in ((first, second), (first[:, :200], first[:, 200:]), (first[:, :, :20], first[:, :, 20:])):
        equal = (a[:-1] == b[:-1]).mean()
        assert abs(equal - 1 / 256) < 8 / np.sqrt(256 * a[:-1].size) + 2.0 ** -(2 * client.parameters.dropped_bits + 8)
