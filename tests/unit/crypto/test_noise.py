"""Measured noise and failures of encrypt, multiply, decrypt against the formulas that parameters are chosen by."""

import math
from dataclasses import replace

import numpy as np
import pytest
from crypto_reference import exact_products
from noise_reference import assert_variance, exact, integers, norms, seed

from private_lora.crypto.parameters import PackedParameters, choose_approximate, choose_exact, rounding_variance
from private_lora.crypto.planes import PlaneProduct
from private_lora.crypto.rlwe import decrypt_rows, encrypt_rows, fresh_secrets, mask_tiles

SEED = bytes(range(32))


def decrypted(x, weight, p, number, delta=None, rounded=False):
    """Products as the client reads them, under fresh keys that are a function of `number`."""
    delta = np.full(len(x), float(p.delta)) if delta is None else delta
    secrets = fresh_secrets(seed(1, number), p.ring_size, len(x))
    mask_seed = seed(2, number)
    bodies = encrypt_rows(x.astype(np.int16), delta, mask_seed, secrets, seed(3, number), p)
    product = PlaneProduct(weight.astype(np.int8), "float64")
    mask = product.rounded_tiles(mask_tiles(mask_seed, p, len(weight)), p.log2_q, p.mask_bits)
    body = product.rounded_tiles(bodies, p.upload_bits, p.body_bits)
    return decrypt_rows(mask, body, delta, secrets, p, rounded)


def whole(p):
    """The same without rounding on the way down."""
    return replace(p, mask_bits=p.log2_q, body_bits=p.upload_bits)


def exact_parameters(weight, activation_bits=8):
    bound = int(np.abs(weight).sum(axis=0).max()) * 2 ** (activation_bits - 1)
    return choose_exact(bound, float(norms(weight).max()), -64.0, "matzov")


def with_dropped(p, dropped):
    return replace(whole(p), dropped_bits=dropped, body_bits=p.log2_q - dropped)


EXACT_CASES = {
    "no bits dropped": (64, lambda p: with_dropped(p, 0)),
    "one bit dropped": (64, lambda p: with_dropped(p, 1)),
    "four bits dropped": (256, lambda p: with_dropped(p, 4)),
    "short answer": (2048, lambda p: p),
    "short body": (64, lambda p: replace(with_dropped(p, 2), body_bits=p.log2_q - 2 - 14)),
    "short mask": (64, lambda p: replace(with_dropped(p, 0), mask_bits=p.log2_q - 8)),
    "one more bit of the mask gone": (256, lambda p: replace(whole(p), mask_bits=p.log2_q - 11)),
}


@pytest.mark.parametrize("case", EXACT_CASES)
def test_the_variance_of_the_phase_error_is_the_predicted_one(case):
    inputs, change = EXACT_CASES[case]
    # Columns of very different norms: the share that grows with the norm and the share that does not both count.
    weight = integers(1, (inputs, 256)) // np.array([1, 1, 4, 32])[np.arange(256) % 4]
    x, p = integers(0, (1024, inputs)), change(exact_parameters(weight))
    errors = (decrypted(x, weight, p, inputs) - exact(x, weight)) * p.delta
    assert_variance(errors, p, norms(weight))


@pytest.mark.parametrize(("inputs", "log2_q"), [(64, 26), (512, 26), (2048, 26), (256, 24), (256, 22)])
def test_the_approximate_mode_errs_as_predicted(inputs, log2_q):
    weight = integers(1, (inputs, 256)) // np.array([1, 8])[np.arange(256) % 2]
    x, p = integers(0, (1024, inputs)), choose_approximate(log2_q, float(norms(weight).max()), "matzov")
    assert p.dropped_bits == (2 if log2_q == 26 else 0)
    assert p.mask_bits < log2_q
    delta = 2.0 ** (log2_q - 2) / np.abs(exact(x, weight)).max(axis=1)
    errors = (decrypted(x, weight, p, inputs, delta) - exact(x, weight)) * delta[:, None]
    assert_variance(errors, p, norms(weight))


@pytest.mark.parametrize("bits", range(8))
def test_rounding_halves_to_even_has_the_stated_variance(bits):
    # All residues of two steps, so that halves fall to either side.
    values = np.arange(2 ** (bits + 1))
    rounded = np.rint(values / 2**bits) * 2**bits
    assert np.mean((rounded - values) ** 2) == pytest.approx(rounding_variance(bits))
    assert np.mean(rounded - values) == 0


def test_wrong_values_are_off_by_one_and_not_by_more():
    weight = integers(1, (512, 64))
    p, x = exact_parameters(weight), integers(0, (1024, 512))
    p = with_dropped(replace(p, log2_q=p.log2_q - 2, mask_bits=p.log2_q - 2, delta=p.delta // 4), 0)
    error = decrypted(x, weight, p, 0, rounded=True) - exact(x, weight)
    assert set(np.unique(error)) == {-1, 0, 1}


@pytest.mark.parametrize(
    ("ring_size", "log2_q"), [(1024, 26), (2048, 41), (2048, 42), (2048, 43), (2048, 53), (4096, 58), (4096, 62)]
)
def test_bodies_are_mask_times_secret_plus_small_errors(ring_size, log2_q):
    # Exactly, against integers, on both sides of the width where the mask is multiplied in two parts.
    p = PackedParameters(ring_size, log2_q, 0, 0, min(47, log2_q), log2_q)
    secrets = fresh_secrets(seed(1), ring_size, ring_size)
    x = np.zeros((ring_size, 96), np.int8)
    bodies = encrypt_rows(x, np.ones(ring_size), SEED, secrets, seed(3), p)[2]
    mask = mask_tiles(SEED, p, 96)[2]
    a, b = (sum(plane.astype(np.int64) << (8 * i) for i, plane in enumerate(planes)) for planes in (mask, bodies))
    secret = secrets[0].astype(np.int64)
    product = exact_products(a & (2**31 - 1), secret) + (exact_products(a >> 31, secret) << 31)
    errors = (b - product + 2 ** (log2_q - 1)) % 2**log2_q - 2 ** (log2_q - 1)
    assert np.abs(errors).max() <= 32
    assert abs(errors.mean()) < 5 * 3.2 / math.sqrt(errors.size)
    assert abs(errors.var() / 10.24 - 1) < 5 * math.sqrt(2 / errors.size)
    # Errors of one tile, and of the next, are not those of another.
    assert abs(np.corrcoef(errors[:, 0], errors[:, 1])[0, 1]) < 5 / math.sqrt(ring_size)


def test_errors_of_tiles_and_of_rings_of_rows_are_unrelated():
    p = PackedParameters(1024, 26, 0, 0, 26, 26)
    zero_secrets = np.zeros((2, 1024), np.int8)
    bodies = encrypt_rows(np.zeros((2048, 192), np.int8), np.ones(2048), SEED, zero_secrets, seed(3), p)
    errors = sum(bodies[:, i].astype(np.int64) << (8 * i) for i in range(p.body_planes))
    parts = errors.reshape(12, 1024 * 32)
    correlations = np.corrcoef(parts)
    assert np.abs(correlations - np.eye(12)).max() < 5 / math.sqrt(parts.shape[1])
