"""The bound on failures against what really fails, at parameters made so bad that failures are frequent."""

import math
from dataclasses import replace

import numpy as np
import pytest
from noise_reference import exact, norms, seed
from slow_tests import slow, slow_but

from private_lora.backends import load
from private_lora.backends.packed.exact import WeightNorms
from private_lora.backends.packed.hints import Hint, compute
from private_lora.crypto import pads
from private_lora.crypto.failure import PhaseError, sigmas
from private_lora.crypto.pads import Pad, decrypt_slots, encrypt_slots
from private_lora.crypto.parameters import PackedParameters, rounding_variance
from private_lora.crypto.planes import PlaneProduct
from private_lora.crypto.rlwe import decrypt_rows, encrypt_rows, fresh_secrets, mask_tiles
from private_lora.crypto.session_parameters import SessionParameters

# How far above the measured frequency the bound may be: 2 exp(-z^2 / 2) over the normal tail is 6 to 11 here.
LOOSENESS = 16
COLUMNS = 32


@pytest.fixture(autouse=True)
def known_errors(monkeypatch):
    """Errors from a seed: these tests pass always or never."""
    numbers = iter(range(1000))
    monkeypatch.setattr(pads, "fresh_seed", lambda: bytearray(seed(9, next(numbers))))


def fresh(x, weight, p, number):
    """Products under keys of one question."""
    delta, mask_seed = np.full(len(x), float(p.delta)), seed(2, number)
    secrets = fresh_secrets(seed(1, number), p.ring_size, len(x))
    multiply = PlaneProduct(weight, "float64")
    mask = multiply.rounded_tiles(mask_tiles(mask_seed, p, len(weight)), p.log2_q, p.mask_bits)
    bodies = encrypt_rows(x, delta, mask_seed, secrets, seed(3, number), p)
    return decrypt_rows(mask, multiply.rounded_tiles(bodies, p.upload_bits, p.body_bits), delta, secrets, p)


def session(x, weight, p, number):
    """Products under slots of a pad."""
    delta, mask_key = np.full(len(x), float(p.delta)), seed(2, number)
    secrets = fresh_secrets(seed(1, number), p.ring_size, -(-len(x) // pads.SLOTS) * p.ring_size)
    pad, slots = Pad(mask_key, len(weight), secrets, p), slice(0, len(x))
    digits = np.empty((p.body_planes, *x.shape), np.int8)
    encrypt_slots(x, delta, pad, slots, p, digits)
    body = PlaneProduct(weight, "float64").rounded(digits, p.upload_bits, p.body_bits)
    return decrypt_slots(body, pad.phase(Hint(compute(weight, mask_key, p).data, weight.shape[1]), p)[slots], delta, p)


MASKS = {"fresh": (fresh, PackedParameters), "session": (session, SessionParameters)}


def weight_of(kind, inputs):
    """int8, inputs x COLUMNS. shared: every entry is 2^6 or -2^6; else uniform."""
    rng = np.random.default_rng(inputs)
    values = rng.choice([-64, 64], (inputs, COLUMNS)) if kind == "shared" else rng.integers(-128, 128, (inputs, COLUMNS))
    return values.astype(np.int8)


def failing(mask, weight, dropped, target, body_share=0.0, mask_share=0.0):
    """Parameters that are bounded to fail about once in 2^-target values, by their delta; log2 Q has room for all answers.

    body_share, mask_share: of delta / 2 and of the error's deviation, what the rounding of body and mask is about as large as.
    """
    common = WeightNorms.of(weight).common_bits
    std, bound = float(norms(weight).max()) * 3.3 * 2**dropped, int(np.abs(weight.astype(int)).sum(axis=0).max()) * 128
    for scale in np.arange(1, 60, 0.05):
        delta = max(1, int(scale * std) >> dropped) << dropped
        log2_q = math.ceil(math.log2(delta * (2 * bound + 1)))
        lost_body = int(math.log2(body_share * delta)) if body_share else dropped
        lost_mask = max(0, round(math.log2(mask_share * std / 10))) if mask_share else 0
        bits = dropped, log2_q - lost_mask, log2_q - max(lost_body, dropped)
        more = {"phase_bits": 47} if mask == "session" else {}
        p = MASKS[mask][1](4096, log2_q, delta, *bits, common_bits=common, **more)
        if p.failure_log2(float(norms(weight).max())) < target:
            return p
    raise AssertionError("no such delta")


CASES = [
    # inputs, kind of columns, dropped bits, log2 of the bound, what body and mask lose, rows
    (2048, "uniform", 0, -2, 0, 0, 256),
    (2048, "uniform", 0, -5, 0, 0, 512),
    (2048, "shared", 2, -4, 0, 1, 256),
    (2048, "shared", 0, -3, 0.3, 1, 256),
]
LARGE_CASES = [
    (8192, "uniform", 1, -4, 0.3, 0, 512),
    (8192, "shared", 0, -2, 0.4, 2, 512),
    (8192, "shared", 0, -4, 0.4, 2, 512),
]


@pytest.mark.parametrize("case", CASES + [slow(case) for case in LARGE_CASES], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_values_fail_at_most_as_often_as_bounded_and_not_much_less(mask, case):
    inputs, kind, dropped, target, body_share, mask_share, rows = case
    weight = weight_of(kind, inputs)
    p = failing(mask, weight, dropped, target, body_share, mask_share)
    x = np.random.default_rng(5).integers(-128, 128, (rows, inputs)).astype(np.int8)
    wrong = MASKS[mask][0](x, weight, p, inputs) != exact(x, weight)
    bound = np.mean([2.0 ** p.failure_log2(float(norm)) for norm in norms(weight)])
    # Values of a row share errors, and those of a secret its weight: the deviation is taken from blocks of rows.
    blocks = wrong.reshape(16, -1).mean(axis=1)
    measured, deviation = blocks.mean(), blocks.std(ddof=1) / 4
    print(f"{mask} {case}: measured 2^{math.log2(measured):.2f}, bound 2^{math.log2(bound):.2f}, {bound / measured:.1f}")
    assert deviation < 0.25 * measured
    assert measured + 4 * deviation <= bound
    assert bound <= LOOSENESS * (measured + 4 * deviation)


@pytest.mark.parametrize("bits", range(1, 7))
def test_the_moments_are_those_of_rounding_every_residue(bits):
    for common in range(bits):
        values = np.arange(0, 2 ** (bits + 1), 2**common)
        errors = np.rint(values / 2**bits) * 2**bits - values
        # Nothing but this rounding: the bound is the least of 2 exp(-t x) times the errors' own generating function.
        error, size = PhaseError(0.0, (0, 0), (common, bits), 1024, 0.0), 0.4 * 2**bits
        t = np.linspace(1e-3, 30, 20000) / 2**bits
        least = (np.log(np.exp(np.outer(errors, t)).mean(axis=0)) - t * size).min() / math.log(2) + 1
        assert error.failure_log2(size) == pytest.approx(min(0, least + 0.25), abs=1e-3)
        assert np.mean(np.abs(errors) >= size) <= 2.0 ** error.failure_log2(size)
        assert rounding_variance(bits, common) == pytest.approx(np.mean(errors**2))


@pytest.mark.parametrize("failure_log2", [-40.0, -80.0, -128.0])
def test_without_roundings_the_error_is_sub_gaussian(failure_log2):
    error = PhaseError(100.0, (0, 0), (0, 0), 1024, 0.0)
    assert error.largest(failure_log2) == pytest.approx(10 * sigmas(failure_log2 - 0.25), rel=1e-6)
    everything = PhaseError(1e6, (0, 5), (3, 9), 2048, 77.0)
    assert everything.failure_log2(everything.largest(failure_log2)) == pytest.approx(failure_log2, abs=1e-3)
    # The normal approximation claims less than this bound, and less than there is.
    z = sigmas(failure_log2)
    assert math.log2(math.erfc(z / math.sqrt(2))) < failure_log2


def test_what_cannot_happen_has_no_probability():
    only = PhaseError(0.0, (0, 0), (0, 4), 1024, 0.0)
    assert only.failure_log2(100.0) == -math.inf
    assert only.failure_log2(0.0) == 0
    assert replace(only, fixed=100.0).failure_log2(100.0) == 0


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("inputs", slow_but((2048,), (2048, 8192)))
def test_a_real_layer_can_be_asked_for_2_to_the_minus_128(mask, inputs):
    weight, rows = weight_of("uniform", inputs), 4
    backend = load("packed", mask=mask, failure_log2=-128)
    plan = backend.plan(weight, 8)
    assert -256 < plan.parameters["failure_log2"] <= -128
    x = np.random.default_rng(5).integers(-128, 128, (rows, inputs)).astype(np.int8)
    client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
    assert np.array_equal(client.decrypt(server.matmul(client.encrypt(x))), exact(x, weight))
