"""Measured noise and failures of a session's answers against the formulas, and of columns that share a power of two."""

import math
from dataclasses import replace

import numpy as np
import pytest
from noise_reference import assert_variance, exact, integers, norms, seed

from private_lora.backends import load
from private_lora.backends.packed.exact import WeightNorms, parameters_of
from private_lora.backends.packed.hints import Hint, compute
from private_lora.crypto import pads
from private_lora.crypto.pads import Pad, decrypt_slots, encrypt_slots
from private_lora.crypto.parameters import rounding_errors, rounding_variance
from private_lora.crypto.planes import PlaneProduct
from private_lora.crypto.rlwe import fresh_secrets
from private_lora.crypto.session_parameters import SessionParameters, choose_session_approximate, choose_session_exact


@pytest.fixture(autouse=True)
def known_errors(monkeypatch):
    """Errors from a seed: these tests pass always or never."""
    numbers = iter(range(1000))
    monkeypatch.setattr(pads, "fresh_seed", lambda: seed(9, next(numbers)))


def opened(x, weight, p, number, delta=None, rounded=False):
    """Products as the client reads them, under a mask and secrets that are a function of `number`."""
    delta = np.full(len(x), float(p.delta)) if delta is None else delta
    mask_key, weight = seed(2, number), weight.astype(np.int8)
    secrets = fresh_secrets(seed(1, number), p.ring_size, -(-len(x) // pads.SLOTS) * p.ring_size)
    pad, slots = Pad(mask_key, len(weight), secrets, p), slice(0, len(x))
    digits = np.empty((p.body_planes, *x.shape), np.int8)
    encrypt_slots(x.astype(np.int16), delta, pad, slots, p, digits)
    body = PlaneProduct(weight, "float64").rounded(digits, p.upload_bits, p.body_bits)
    phase = pad.phase(Hint(compute(weight, mask_key, p).data, weight.shape[1]), p)[slots]
    return decrypt_slots(body, phase, delta, p, rounded)


def exact_parameters(weight, activation_bits=8):
    bound = int(np.abs(weight).sum(axis=0).max()) * 2 ** (activation_bits - 1)
    return choose_session_exact(bound, float(norms(weight).max()), -64.0, "classical", WeightNorms.of(weight).common_bits)


def with_dropped(p, dropped):
    bits = {"dropped_bits": dropped, "body_bits": p.log2_q - dropped, "mask_bits": p.log2_q}
    return replace(p, delta=p.delta >> dropped << dropped, **bits)


EXACT_CASES = {
    "no bits dropped": (64, lambda p: with_dropped(p, 0)),
    "one bit dropped": (64, lambda p: with_dropped(p, 1)),
    "seven bits dropped": (256, lambda p: with_dropped(p, 7)),
    "as chosen": (2048, lambda p: p),
    "short body": (64, lambda p: replace(with_dropped(p, 2), body_bits=p.log2_q - 2 - 14)),
    "short hint": (64, lambda p: replace(with_dropped(p, 0), mask_bits=p.log2_q - 8)),
    "short phase": (64, lambda p: replace(with_dropped(p, 0), phase_bits=p.log2_q - 14)),
}


@pytest.mark.parametrize("case", EXACT_CASES)
def test_the_variance_of_the_phase_error_is_the_predicted_one(case):
    inputs, change = EXACT_CASES[case]
    weight = integers(1, (inputs, 256)) // np.array([1, 1, 4, 32])[np.arange(256) % 4]
    x, p = integers(0, (1024, inputs)), change(exact_parameters(weight))
    errors = (opened(x, weight, p, inputs) - exact(x, weight)) * p.delta
    assert_variance(errors, p, norms(weight))


@pytest.mark.parametrize(("inputs", "log2_q"), [(64, 26), (2048, 26), (256, 24), (256, 22)])
def test_the_approximate_mode_errs_as_predicted(inputs, log2_q):
    weight = integers(1, (inputs, 256)) // np.array([1, 8])[np.arange(256) % 2]
    x, p = integers(0, (1024, inputs)), choose_session_approximate(log2_q, float(norms(weight).max()), "classical")
    delta = 2.0 ** (log2_q - 2) / np.abs(exact(x, weight)).max(axis=1)
    errors = (opened(x, weight, p, inputs, delta) - exact(x, weight)) * delta[:, None]
    assert_variance(errors, p, norms(weight))


def failing(p, weight, dropped, shift):
    """Parameters with too small a modulus for `weight`: as large a one as still fails once in a few hundred values.

    shift: of the body, bits less than delta has.
    """
    bound = int(np.abs(weight).sum(axis=0).max()) * 128
    for log2_q in range(p.log2_q - 1, 2, -1):
        delta = 2**log2_q // (2 * bound + 1) >> dropped << dropped
        lost = max(0, delta.bit_length() - dropped - shift) if shift else 0
        smaller = replace(
            p,
            log2_q=log2_q,
            delta=delta,
            dropped_bits=dropped,
            mask_bits=log2_q,
            body_bits=log2_q - dropped - lost,
            phase_bits=40,
        )
        if smaller.failure_log2(float(norms(weight).mean())) > -9:
            return smaller
    raise AssertionError("no such modulus")


def wrong_rows(weight, p, rows=1024, times=2):
    """Share of wrong values of each row."""
    shares = []
    for number in range(times):
        x = integers(number, (rows, len(weight)))
        error = opened(x, weight, p, number, rounded=True) - exact(x, weight)
        assert np.abs(error).max() == 1  # off by one and not by more
        shares.append((error != 0).mean(axis=1))
    return np.concatenate(shares)


@pytest.mark.parametrize(("dropped", "shift"), [(0, 0), (3, 0), (0, 2), (2, 2)])
def test_the_probability_of_a_wrong_value_is_the_predicted_one(dropped, shift):
    weight = integers(1, (512, 256))
    p = failing(exact_parameters(weight), weight, dropped, shift)
    predicted = np.mean([2.0 ** p.failure_log2(norm) for norm in norms(weight)])
    assert 1e-3 < predicted < 1e-1
    by_row = wrong_rows(weight, p)
    deviation = by_row.std() / math.sqrt(by_row.size)
    assert deviation < 0.08 * predicted
    assert abs(by_row.mean() - predicted) < 4 * deviation + 0.02 * predicted  # the formula errs on the safe side


@pytest.mark.parametrize("bits", range(1, 9))
def test_rounding_multiples_of_a_power_of_two_has_the_stated_variance_and_errors(bits):
    for common in range(bits):
        values = np.arange(0, 2 ** (bits + 1), 2**common)
        errors = np.rint(values / 2**bits) * 2**bits - values
        assert (
            np.mean(errors**2)
            == pytest.approx((4**bits + 2 * 4**common) / 12)
            == pytest.approx(rounding_variance(bits, common))
        )
        points = rounding_errors(bits, common)
        assert sum(p for _, p in points) == pytest.approx(1)
        assert sum(u**2 * p for u, p in points) >= np.mean(errors**2) * (1 - 1e-9)
        if 2 ** (bits - common) <= 64:
            assert {u for u, _ in points} == set(errors)
            assert all(p == pytest.approx(np.mean(errors == u)) for u, p in points if abs(u) < 2 ** (bits - 1))
    # Multiples of what is rounded to are not rounded at all: the most that fewer common bits could do is counted.
    assert rounding_variance(bits, bits) >= rounding_variance(bits, bits - 1)
    assert rounding_errors(bits, bits) == rounding_errors(bits, bits - 1)
    assert rounding_errors(0) == [(0.0, 1.0)]


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_columns_of_one_size_are_planned_with_their_common_bits(mask):
    weight = np.random.default_rng(0).choice([-64, 64], (64, 8))
    plan = load("packed", mask=mask).plan(weight, 8)
    assert plan.parameters["common_bits"] == plan.parameters["weight"]["common_bits"] == 6
    p, norm = parameters_of(plan), float(norms(weight).max())
    assert p.failure_log2(norm) == plan.parameters["failure_log2"] <= -64
    # What was claimed of the same parameters: rarer failures than there are.
    assert replace(p, common_bits=0).failure_log2(norm) < p.failure_log2(norm) - 1
    assert load("packed", mask=mask).plan(weight + 1, 8).parameters["common_bits"] == 0
    assert load("packed", mask=mask).plan(np.zeros_like(weight), 8).parameters["common_bits"] == 0


def test_common_bits_are_those_of_the_column_that_has_most():
    weight = np.array([[3, 8, 0], [5, -24, 0], [1, 0, 0]])
    assert WeightNorms.of(weight).common_bits == 3
    assert WeightNorms.of(weight[:, [0, 2]]).common_bits == 0
    assert WeightNorms.of(np.full((4, 1), -128)).common_bits == 7


def test_columns_of_one_size_fail_as_often_as_predicted_and_more_than_was_claimed():
    weight = np.random.default_rng(0).choice([-64, 64], (4, 64))
    # A body loses one bit more than its values have in common: half of them are rounded, by a quarter of delta.
    p = SessionParameters(2048, 29, 2**29 // (2 * 4 * 64 * 128 + 1) >> 5 << 5, 5, 29, 17, common_bits=6)
    norm = float(norms(weight)[0])
    predicted, claimed = (2.0 ** q.failure_log2(norm) for q in (p, replace(p, common_bits=0)))
    by_row = wrong_rows(weight, p, rows=16384)
    deviation = by_row.std() / math.sqrt(by_row.size)
    assert deviation < 0.03 * predicted
    assert abs(by_row.mean() - predicted) < 4 * deviation
    assert by_row.mean() > 1.3 * claimed
