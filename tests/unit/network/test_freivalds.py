"""Freivalds' check: right answers always pass, wrong ones do not, and its arithmetic is that of Python's integers."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.backends.contract import accumulator_bound
from private_lora.network.client.freivalds import MISSED_BITS, AnswerCheck

WIDTHS = st.integers(2, 16)
ANSWERS_PER_CHECK = 250


def integers(rng, bits, shape):
    """Signed integers of a width in the smallest type that holds them."""
    half = 2 ** (bits - 1)
    return rng.integers(-half, half, shape).astype(np.int8 if bits <= 8 else np.int16)


def product(x, weight):
    """x W in float64, which is exact below 2^53 and shares nothing with the check."""
    return (x.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)


def problem(seed, rows=5, inputs=24, outputs=40, x_bits=8, weight_bits=8):
    rng = np.random.default_rng(seed)
    x, weight = integers(rng, x_bits, (rows, inputs)), integers(rng, weight_bits, (inputs, outputs))
    return AnswerCheck(weight, accumulator_bound(weight, x_bits)), x, weight, product(x, weight)


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 70))


@given(st.integers(0, 2**32 - 1), SIZES, WIDTHS, WIDTHS)
@settings(max_examples=60)
def test_right_answers_pass(seed, sizes, x_bits, weight_bits):
    check, x, _, y = problem(seed, *sizes, x_bits, weight_bits)
    assert check.accepts(x, y)
    assert check.accepts(x.astype(np.int64), np.asfortranarray(y))


@given(st.integers(0, 2**32 - 1), SIZES, WIDTHS)
@settings(max_examples=40)
def test_what_is_kept_is_the_product_of_secret_and_weight(seed, sizes, weight_bits):
    check, _, weight, _ = problem(seed, *sizes, weight_bits=weight_bits)
    for secret, image in zip(check._secret.tolist(), check._image.tolist(), strict=True):
        expected = [sum(w * r for w, r in zip(row, secret, strict=True)) for row in weight.tolist()]
        assert [(e - v) % 2**64 for e, v in zip(expected, image, strict=True)] == [0] * len(weight)


def verdict(check, x, y):
    """`wrong_rows` by Python's integers."""
    wrong = []
    for i, (row, answer) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        differences = [
            sum(a * r for a, r in zip(answer, secret, strict=True)) - sum(a * v for a, v in zip(row, image, strict=True))
            for secret, image in zip(check._secret.tolist(), check._image.tolist(), strict=True)
        ]
        if any(abs(a) > check.bound for a in answer) or any(d % 2**64 for d in differences):
            wrong.append(i)
    return wrong


@given(
    st.integers(0, 2**32 - 1), SIZES, st.sampled_from([2**20, 2**40, 2**62 - 1]), st.sampled_from([0, 63]), st.integers(0, 63)
)
@settings(max_examples=60)
def test_verdicts_are_those_of_unlimited_integers(seed, sizes, bound, secret_shift, answer_shift):
    """Of a secret that keeps its lowest bit only, times 2^63, half of all errors pass, so both verdicts occur."""
    rows, inputs, outputs = sizes
    rng = np.random.default_rng(seed)
    check = AnswerCheck(integers(rng, 8, (inputs, outputs)), bound)
    check._secret, check._image = check._secret << secret_shift, check._image << secret_shift
    check._secret.setflags(write=False)
    x = rng.integers(-(2**15), 2**15, (rows, inputs))
    y = rng.integers(-(2**63), 2**63 - 1, (rows, outputs), endpoint=True) >> answer_shift
    assert check.wrong_rows(x, y).tolist() == verdict(check, x, y)


@pytest.mark.parametrize("x_bits", [2, 8, 9, 16])
@pytest.mark.parametrize("weight_bits", [2, 8, 9, 16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_values_of_every_width_pass_and_one_more_does_not(x_bits, weight_bits, sign):
    lowest = -(2 ** (weight_bits - 1))
    weight = np.full((4096, 3), lowest if sign > 0 else -lowest - 1, np.int16)
    x = np.full((2, 4096), -(2 ** (x_bits - 1)), np.int16)
    bound = accumulator_bound(weight, x_bits)
    check, y = AnswerCheck(weight, bound), product(x, weight)
    assert abs(y).max() == bound
    assert check.accepts(x, y)
    y[1, 2] += sign
    assert check.wrong_rows(x, y).tolist() == [1]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(8, 8), (12, 12), (16, 16)]),
    st.sampled_from([-1, 1]),
    st.one_of(
        st.integers(0, 62).map(lambda k: 2**k),
        st.integers(1, 2**16).map(lambda k: k * (2**31 - 1)),
        st.integers(1, 2**62),
    ),
)
@settings(max_examples=150)
def test_one_changed_value_is_found_whatever_was_added(seed, widths, sign, delta):
    check, x, _, y = problem(seed, x_bits=widths[0], weight_bits=widths[1])
    rng = np.random.default_rng(seed)
    row, column = rng.integers(5), rng.integers(40)
    y[row, column] += sign * delta
    assert check.wrong_rows(x, y).tolist() == [row]


@given(st.integers(0, 2**32 - 1), st.integers(56, 61))
@settings(max_examples=60)
def test_errors_that_one_secret_could_miss_are_found(seed, exponent):
    """One secret tells an error of 2^61 from none by its three lowest bits."""
    rng = np.random.default_rng(seed)
    check = AnswerCheck(integers(rng, 16, (8, 8)), 2**61)
    error = 2**exponent * rng.integers(-1, 1, (1, 8), endpoint=True)
    assert check.accepts(np.zeros((1, 8), np.int16), error) == (not error.any())


def test_enough_secrets_are_drawn_for_every_bound():
    for exponent in range(62):
        check = AnswerCheck(np.ones((1, 1), np.int8), 2**exponent)
        assert check.secrets * (64 - exponent - 1) >= MISSED_BITS
        assert check._secret.shape == (check.secrets, 1)
    assert AnswerCheck(np.ones((1, 1), np.int8), 2**32 - 1).secrets == 1


@pytest.mark.parametrize("widths", [(8, 8), (16, 16)])
def test_one_flipped_bit_is_caught_in_100_of_100_trials(widths):
    caught = 0
    for trial in range(100):
        check, x, _, y = problem(trial, x_bits=widths[0], weight_bits=widths[1])
        rng = np.random.default_rng(trial)
        y[rng.integers(5), rng.integers(40)] ^= np.int64(-(2**63) if trial % 64 == 63 else 2 ** (trial % 64))
        caught += not check.accepts(x, y)
    assert caught == 100


def test_rows_in_another_order_or_of_another_question_are_wrong():
    check, x, _, y = problem(0)
    assert check.wrong_rows(x, y[[1, 0, 2, 3, 4]]).tolist() == [0, 1]
    assert check.wrong_rows(x, np.zeros_like(y)).tolist() == [0, 1, 2, 3, 4]
    assert check.wrong_rows(np.zeros_like(x), y).tolist() == [0, 1, 2, 3, 4]


def test_rows_of_every_thread_are_checked():
    check, x, _, y = problem(0, rows=3000, inputs=64, outputs=96)
    y[[0, 1, 1498, 1499, 1500, 2999], [0, 95, 7, 8, 9, 95]] += 1
    assert check.wrong_rows(x, y).tolist() == [0, 1, 1498, 1499, 1500, 2999]


def test_no_rows_are_right():
    check, x, _, y = problem(0)
    assert check.accepts(x[:0], y[:0])


def test_other_shapes_and_types_are_refused():
    check, x, weight, y = problem(0)
    for wrong in [(x[:, 1:], y), (x, y[:, 1:]), (x[1:], y), (x, y[0]), (x * 0.5, y), (x, y.astype(np.uint64))]:
        with pytest.raises(ValueError, match="rows"):
            check.wrong_rows(*wrong)
    for bound in (-1, 2**62):
        with pytest.raises(ValueError, match="bound"):
            AnswerCheck(weight, bound)
    with pytest.raises(ValueError, match="signed integers"):
        AnswerCheck(weight * 0.5, 1)


def test_two_checks_of_a_weight_have_nothing_in_common():
    weight = integers(np.random.default_rng(0), 8, (64, 64))
    one, other = AnswerCheck(weight, 2**21), AnswerCheck(weight, 2**21)
    assert not (one._secret == other._secret).any()
    assert not (one._image == other._image).any()


def test_the_secret_leaves_in_no_way():
    check, _, _, _ = problem(0)
    with pytest.raises(TypeError, match="not serialized"):
        pickle.dumps(check)
    assert str(check) == repr(check) == f"AnswerCheck(24 x 40, bound {check.bound})"


def test_no_false_alarm_in_honest_answers(honest_answers):
    """As the protocol goes: one check for some hundred answers, each to a question of its own."""
    rng = np.random.default_rng()
    asked = 0
    while asked < honest_answers:
        x_bits, weight_bits = rng.integers(2, 17, 2)
        inputs, outputs = rng.integers(1, 97, 2)
        weight = integers(rng, weight_bits, (inputs, outputs))
        check = AnswerCheck(weight, accumulator_bound(weight, int(x_bits)))
        edges = np.cumsum(rng.integers(1, 17, min(ANSWERS_PER_CHECK, honest_answers - asked)))
        questions = integers(rng, x_bits, (edges[-1], inputs))
        questions[rng.random(len(questions)) < 0.1] = -(2 ** (int(x_bits) - 1))
        answers = product(questions, weight)
        for start, stop in zip([0, *edges], edges, strict=False):
            assert check.accepts(questions[start:stop], answers[start:stop])
            asked += 1
