"""Wrong answers: every one that changes a value is caught, and none that does not."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import numpy as np
import pytest
from liars import (
    LAYER,
    OTHER_LAYER,
    OUTPUTS,
    Raw,
    address_of,
    asked_of,
    asker_of,
    flipped,
    flips_any_bit,
    liar_and_honest,
    lying,
    of_shape,
    rows,
    two_layers,
    weight_of,
    zeros,
)

from private_lora.backends.packed import exact as packed
from private_lora.crypto.bits import TiledBits
from private_lora.network.client.remote import Asking

TRIALS = 100
ANYWHERE_TRIALS = 300
MASKS = ["session", "fresh"]


def test_the_flip_is_one_bit_of_one_value():
    matrix = TiledBits.empty(20, OUTPUTS, 13)
    seen = set()
    for row in range(20):
        for column in range(OUTPUTS):
            for bit in range(13):
                changed = np.flatnonzero(flipped(matrix, row, column, bit).data != matrix.data)
                value = flipped(matrix, row, column, bit).data.reshape(-1)[changed] ^ matrix.data.reshape(-1)[changed]
                seen.add((*changed, *value))
    assert len(seen) == 20 * OUTPUTS * 13


def message_bits(parameters):
    """How many of the highest bits of a value of the answer hold the message: Q / delta of them."""
    return int(np.floor(parameters.log2_q - np.log2(parameters.delta)))


def changes_a_value(chance, parameters):
    """A lie: one bit of a message, or of the mask that it is hidden under."""

    def lie(_, answer):
        part = chance.choice(["mask", "body"] if hasattr(answer, "mask") else ["body"])
        matrix = getattr(answer, part)
        bit = matrix.bits - 1 - chance.randrange(message_bits(parameters))
        place = chance.randrange(matrix.rows), chance.randrange(answer.body.columns)
        return replace(answer, **{part: flipped(matrix, *place, bit)})

    return lie


def parameters(mask):
    return packed.parameters_of(packed.PackedBackend(mask=mask).plan(weight_of(LAYER).values, 8))


@pytest.mark.parametrize("mask", MASKS)
def test_one_bit_of_one_value_is_caught_every_time(mask, local_worker, caplog):
    with (
        liar_and_honest(local_worker, changes_a_value(random.Random(0), parameters(mask)), mask) as both,
        asker_of(both, mask=mask) as asker,
    ):
        for trial in range(TRIALS):
            x = rows(trial)
            assert (asker.ask(x) == x @ asker.weight).all()
            assert asker.place.counters.rejected_answers == trial + 1
            assert list(asker.dropped) == [str(address_of(both[0]))]
            asker.forgive()
        assert asked_of(both[0]) == asked_of(both[1]) == TRIALS
        assert sum("Freivalds" in message for message in caplog.messages) == TRIALS


@pytest.mark.parametrize("mask", MASKS)
def test_one_bit_anywhere_is_harmless_or_caught(mask, local_worker):
    with liar_and_honest(local_worker, flips_any_bit(random.Random(1)), mask) as both, asker_of(both, mask=mask) as asker:
        for trial in range(ANYWHERE_TRIALS):
            x = rows(trial)
            assert (asker.ask(x) == x @ asker.weight).all()
            asker.forgive()
        caught = asker.place.counters.rejected_answers
        assert asked_of(both[0]) == ANYWHERE_TRIALS
        assert asked_of(both[1]) == caught
    print(f"one bit anywhere: {caught} caught, {ANYWHERE_TRIALS - caught} harmless, 0 accepted")
    assert 0 < caught < ANYWHERE_TRIALS  # low bits, and columns that fill up a tile, are nobody's value


@pytest.mark.parametrize("mask", MASKS)
def test_without_the_check_the_lie_is_believed(mask, local_worker):
    lie, unchecked = changes_a_value(random.Random(2), parameters(mask)), Asking(check_answers=False)
    with liar_and_honest(local_worker, lie, mask) as both, asker_of(both, unchecked, mask=mask) as asker:
        x = rows(0)
        assert (asker.ask(x) != x @ asker.weight).any()
        assert asker.place.counters.rejected_answers == 0
        assert not asker.dropped


@pytest.mark.parametrize("mask", MASKS)
def test_honest_answers_are_never_rejected(mask, local_worker):
    with local_worker(two_layers(mask)) as running, asker_of([running], Asking(rows_per_question=7), mask=mask) as asker:
        for seed in range(50):
            x = rows(seed, 20)
            assert (asker.ask(x) == x @ asker.weight).all()
        assert asker.place.counters.rejected_answers == 0
        assert asker.place.counters.round_trips == 150


def product_with(question, values):
    """A question's product with a weight that nobody agreed on."""
    backend = packed.PackedBackend(mask="fresh" if hasattr(question, "mask_seed") else "session")
    return backend.server(backend.plan(weight_of(LAYER).values, 8), values).matmul(question)


def wrong_weight(question, _):
    """One value of the weight is another, by one."""
    values = weight_of(LAYER).values.copy()
    values[0, 0] ^= 1
    return product_with(question, values)


def wrong_row(question, _):
    """One row of the weight is that of another input."""
    values = weight_of(LAYER).values.copy()
    values[5] = values[6]
    return product_with(question, values)


def by_a_power_of_two(bit):
    """One column of the weight is wrong by multiples of 2^bit alone, the errors that modulo 2^64 hide best."""

    def lie(question, _):
        values = weight_of(LAYER).values.copy()
        values[:, 2] ^= np.where(np.arange(len(values)) % 2, 1 << bit, 0).astype(values.dtype)
        return product_with(question, values)

    return lie


def other_layer(question, _):
    """The product with another layer's weight."""
    return product_with(question, weight_of(OTHER_LAYER).values)


def in_one_row(_, answer):
    """The highest bit of one value of the last row."""
    return replace(answer, body=flipped(answer.body, answer.body.rows - 1, 0, answer.body.bits - 1))


def rows_swapped(_, answer):
    """Every row is a right one, of another token."""
    whole = answer.body.data.copy()
    for column in range(OUTPUTS):
        for bit in range(answer.body.bits):
            one, other = (bit_of(answer.body, row, column, bit) for row in (0, 1))
            if one != other:
                for row in (0, 1):
                    whole ^= flipped(answer.body, row, column, bit).data ^ answer.body.data
    return replace(answer, body=replace(answer.body, data=whole))


def bit_of(matrix, row, column, bit):
    changed = flipped(matrix, row, column, bit).data
    place = np.flatnonzero(changed != matrix.data)[0]
    return bool(matrix.data.reshape(-1)[place] & (changed ^ matrix.data).reshape(-1)[place])


def other_parameters(_, answer):
    *numbers, body_bits = answer.parameters
    numbers[-2 if len(numbers) > 1 else 0] += 1  # dropped bits, or in a session all bits up
    return replace(answer, parameters=(*numbers, body_bits))


class Older:
    """The answer to the first question, for ever."""

    def __init__(self):
        self.first = None

    def __call__(self, _, answer):
        self.first = self.first or answer
        return self.first


LIES = {
    "another weight": wrong_weight,
    "another row of the weight": wrong_row,
    "another layer": other_layer,
    "one value of one row": in_one_row,
    "rows in another order": rows_swapped,
    **{f"multiples of 2^{bit}": by_a_power_of_two(bit) for bit in range(7)},
    "zeros": zeros,
    "fewer rows": lambda _, answer: of_shape(answer, answer.body.rows - 1, answer.body.columns),
    "more rows": lambda _, answer: of_shape(answer, answer.body.rows + 1, answer.body.columns),
    "fewer columns": lambda _, answer: of_shape(answer, answer.body.rows, answer.body.columns - 1),
    "more columns": lambda _, answer: of_shape(answer, answer.body.rows, 16 * answer.body.columns),
    "another id": lambda _, answer: replace(answer, question_id=bytes(16)),
    "other parameters": other_parameters,
    "nothing": lambda *_: Raw(b""),
    "the question": lambda question, _: question,
    "garbage": lambda _, answer: Raw(random.Random(3).randbytes(len(answer.to_bytes()))),
    "cut short": lambda _, answer: Raw(answer.to_bytes()[:-1]),
    "too long": lambda _, answer: Raw(answer.to_bytes() + b"-"),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", LIES)
def test_whatever_a_liar_sends_the_answer_is_right_and_it_is_dropped(mask, name, local_worker):
    with liar_and_honest(local_worker, LIES[name], mask) as both, asker_of(both, mask=mask) as asker:
        for seed in range(3):
            assert (asker.ask(rows(seed)) == rows(seed) @ asker.weight).all()
        assert list(asker.dropped) == [str(address_of(both[0]))]
        assert (asked_of(both[0]), asked_of(both[1])) == (1, 3)
        (lie,) = asker.place.report()["caught"] or [{"bits": 0}]  # what is too long is refused before it is read
        assert lie["bits"] == asker.place.report()["bits_shown_to_liars"] <= 1
        assert not asker.client.keys.secret  # no key of a question that was given up is kept


def test_the_answer_to_an_older_question_is_none(local_worker):
    with liar_and_honest(local_worker, Older()) as both, asker_of(both) as asker:
        for seed in range(3):
            assert (asker.ask(rows(seed)) == rows(seed) @ asker.weight).all()
        assert (asked_of(both[0]), asked_of(both[1])) == (2, 2)  # the first answer was right
        assert "another question" in asker.dropped[str(address_of(both[0]))]


def test_an_answer_to_a_question_on_its_way_elsewhere_does_not_spoil_that_one(local_worker):
    """Two workers that conspire: the first passes off what the second is to answer. The second's own answer is still good."""
    seen, known = [], threading.Event()

    def remember(_, answer):
        seen.append(answer)
        known.set()
        threading.Event().wait(0.5)  # until the other one has passed it off
        return answer

    def pass_off(*_):
        assert known.wait(10)
        return seen[0]

    held = lying(two_layers(), pass_off), lying(two_layers(), remember)
    with local_worker(held[0]) as first, local_worker(held[1]) as second:
        asking = Asking(rows_per_question=32)
        with asker_of([first, second], asking) as asker:
            x = rows(0, 64)
            assert (asker.ask(x) == x @ asker.weight).all()
            assert list(asker.dropped) == [str(address_of(first))]
