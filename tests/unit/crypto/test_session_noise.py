"""Measured noise and failures of a session's answers against the formulas, and of columns that share a power of two."""

from dataclasses import replace

import numpy as np
import pytest
from noise_reference import assert_variance, exact, integers, norms, seed

from private_lora.backends import load
from private_lora.backends.packed.exact import WeightNorms, parameters_of
from private_lora.backends.packed.hints import Hint, compute
from private_lora.crypto import pads
from private_lora.crypto.pads import Pad, decrypt_slots, encrypt_slots
from private_lora.crypto.parameters import rounding_variance
from private_lora.crypto.planes import PlaneProduct
from private_lora.crypto.rlwe import fresh_secrets
from private_lora.crypto.session_parameters import choose_session_approximate, choose_session_exact


@pytest.fixture(autouse=True)
def known_errors(monkeypatch):
    """Errors from a seed: these tests pass always or never."""
    numbers = iter(range(1000))
    monkeypatch.setattr(pads, "fresh_seed", lambda: bytearray(seed(9, next(numbers))))


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
    return choose_session_exact(bound, float(norms(weight).max()), -64.0, "matzov", WeightNorms.of(weight).common_bits)


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
    x, p = integers(0, (1024, inputs)), choose_session_approximate(log2_q, float(norms(weight).max()), "matzov")
    delta = 2.0 ** (log2_q - 2) / np.abs(exact(x, weight)).max(axis=1)
    errors = (opened(x, weight, p, inputs, delta) - exact(x, weight)) * delta[:, None]
    assert_variance(errors, p, norms(weight))


@pytest.mark.parametrize("bits", range(1, 9))
def test_rounding_multiples_of_a_power_of_two_has_the_stated_variance(bits):
    for common in range(bits):
        values = np.arange(0, 2 ** (bits + 1), 2**common)
        errors = np.rint(values / 2**bits) * 2**bits - values
        assert (
            np.mean(errors**2)
            == pytest.approx((4**bits + 2 * 4**common) / 12)
            == pytest.approx(rounding_variance(bits, common))
        )
    # Multiples of what is rounded to are not rounded at all: the most that fewer common bits could do is counted.
    assert rounding_variance(bits, bits) >= rounding_variance(bits, bits - 1)


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_columns_of_one_size_are_planned_with_their_common_bits(mask):
    weight = np.random.default_rng(0).choice([-64, 64], (64, 8))
    plan = load("packed", mask=mask).plan(weight, 8)
    assert plan.parameters["common_bits"] == plan.parameters["weight"]["common_bits"] == 6
    p, norm = parameters_of(plan), float(norms(weight).max())
    assert p.failure_log2(norm) == plan.parameters["failure_log2"] <= -80
    # What was claimed of the same parameters: rarer failures than there are.
    assert replace(p, common_bits=0).failure_log2(norm) < p.failure_log2(norm) - 1
    assert load("packed", mask=mask).plan(weight + 1, 8).parameters["common_bits"] == 0
    assert load("packed", mask=mask).plan(np.zeros_like(weight), 8).parameters["common_bits"] == 0


def test_common_bits_are_those_of_the_column_that_has_most():
    weight = np.array([[3, 8, 0], [5, -24, 0], [1, 0, 0]])
    assert WeightNorms.of(weight).common_bits == 3
    assert WeightNorms.of(weight[:, [0, 2]]).common_bits == 0
    assert WeightNorms.of(np.full((4, 1), -128)).common_bits == 7
