"""Pads: a s + e and (A W) s are exact products over modules, and each slot is used once and leaves nothing behind."""

import math
import os

import numpy as np
import pytest
from crypto_reference import exact_products, loaded

from private_lora.backends import load
from private_lora.backends.packed.hints import Hint, compute
from private_lora.crypto import pads
from private_lora.crypto.pads import EXACT_BITS, SLOTS, Pad
from private_lora.crypto.ring import LANES, forward, inverse, roots
from private_lora.crypto.rlwe import fresh_secrets, load_digits, mask_tiles
from private_lora.crypto.session_parameters import SessionParameters

KEY = bytes(range(32))


def parameters(ring_size, log2_q, dropped=0, delta=1, mask_bits=None, phase_bits=32):
    bits = dropped, mask_bits or min(log2_q, 47), log2_q - dropped
    return SessionParameters(ring_size, log2_q, delta << dropped, *bits, phase_bits=phase_bits)


def secrets_of(p, count, number=1):
    return fresh_secrets(bytes([number]) * 32, p.ring_size, count * p.ring_size)


def masks_of(p, columns):
    """N x columns, int64."""
    tiles = mask_tiles(KEY, p, columns).astype(np.int64)
    values = sum(tiles[:, plane] << (8 * plane) for plane in range(p.mask_planes))
    return values.transpose(1, 0, 2).reshape(p.ring_size, -1)[:, :columns]


def module_products(columns, secret):
    """sum_i columns_i secret_i modulo x^SLOTS + 1 and 2^64: the N rows are polynomials of SLOTS coefficients each."""
    total, secret = 0, secret.astype(np.int64)
    for i in range(0, len(columns), SLOTS):
        part, factor = columns[i : i + SLOTS], secret[i : i + SLOTS]
        total += exact_products(part & (2**31 - 1), factor) + (exact_products(part >> 31, factor) << 31)
    return total


def reduced(values, bits):
    """Around zero."""
    return (values + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def masked_errors(pad, columns):
    return ((pad.high.astype(np.int64) << 32) + pad.low)[:, :columns]


@pytest.mark.parametrize(
    ("ring_size", "log2_q"), [(1024, 22), (2048, 41), (2048, 42), (2048, 43), (2048, 45), (4096, 53), (4096, 62), (8192, 62)]
)
def test_slots_are_mask_times_secret_plus_small_errors(ring_size, log2_q):
    # Exactly, on both sides of the width where masks are multiplied in two parts, and of 40 bits, where more are kept.
    p, columns = parameters(ring_size, log2_q), 70
    secrets = secrets_of(p, 2)
    pad = Pad(KEY, columns, secrets, p)
    assert (pad.slots, pad.left) == (2 * SLOTS, 2 * SLOTS)
    products = np.concatenate([module_products(masks_of(p, columns), secret) for secret in secrets])
    errors = reduced(masked_errors(pad, columns) - products, log2_q)
    assert np.abs(errors).max() <= 32
    assert abs(errors.mean()) < 6 * 3.2 / math.sqrt(errors.size)
    assert abs(errors.var() / 10.24 - 1) < 6 * math.sqrt(2 / errors.size)
    for a, b in ((errors[:SLOTS], errors[SLOTS:]), (errors[:, :32], errors[:, 32:64]), (errors[1:], errors[:-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 6 / math.sqrt(a.size)


@pytest.mark.parametrize(("log2_q", "dropped"), [(37, 1), (37, 5), (45, 12)])
def test_dropped_bits_are_rounded_to_the_nearest_and_no_value_is_likelier(log2_q, dropped):
    p, columns = parameters(2048, log2_q, dropped), 64
    (secret,) = secrets_of(p, 1)
    kept = masked_errors(Pad(KEY, columns, secret[None], p), columns)
    assert np.abs(kept).max() <= 2 ** (log2_q - dropped - 1)
    errors = reduced((kept << dropped) - module_products(masks_of(p, columns), secret), log2_q)
    assert np.abs(errors).max() <= 32 + 2 ** (dropped - 1)
    # The parity's bias would be 2^-(dropped + 1) with halves to even.
    assert abs((kept & 1).mean() - 0.5) < 3 / math.sqrt(kept.size)
    assert abs(errors.mean()) < 6 * errors.std() / math.sqrt(errors.size)


def test_a_message_at_a_scale_of_its_own_meets_a_pad_that_is_not_rounded_yet():
    p = parameters(2048, 26, 2, delta=0)
    (secret,) = secrets_of(p, 1)
    errors = reduced(masked_errors(Pad(KEY, 40, secret[None], p), 40) - module_products(masks_of(p, 40), secret), 26)
    assert np.abs(errors).max() <= 32


@pytest.mark.parametrize(
    ("ring_size", "log2_q", "mask_bits", "phase_bits"),
    [(1024, 22, 16, 32), (2048, 37, 30, 32), (2048, 45, 36, 32), (4096, 62, 47, 47), (8192, 62, 47, 47)],
)
def test_phases_are_hint_times_secret(ring_size, log2_q, mask_bits, phase_bits):
    p = parameters(ring_size, log2_q, mask_bits=mask_bits, phase_bits=phase_bits)
    weight = np.random.default_rng(0).integers(-128, 128, (50, 70)).astype(np.int8)
    secrets, tiles = secrets_of(p, 2), compute(weight, KEY, p)
    # The hint's upper bits are those of A W.
    exact = masks_of(p, 50) @ weight.astype(np.int64)
    values = loaded(tiles)[:, :70].astype(np.int64)
    assert np.abs(reduced((values << (log2_q - mask_bits)) - exact, log2_q)).max() <= 2 ** (log2_q - mask_bits) / 2
    pad = Pad(KEY, 50, secrets, p)  # which wipes its phases at its end
    phase = pad.phase(Hint(tiles.data, 70), p)[:, :70].astype(np.int64)
    products = np.concatenate([module_products(values, secret) for secret in secrets])
    if phase_bits > mask_bits:
        expected, allowed = products << (phase_bits - mask_bits), 0
    else:
        expected, allowed = products >> (mask_bits - phase_bits), 1
    errors = reduced(phase - expected, phase_bits)
    if mask_bits < 47:
        assert np.abs(errors).max() <= allowed
    else:  # the widest ones lose a little, far less than rounding the hint to these bits costs anyway
        assert errors.std() < math.sqrt(1 / 12 * 2 * ring_size / 3) / 4


@pytest.mark.parametrize("ring_size", [2048, 4096])  # no larger one is needed for LARGEST_LOG2_Q
def test_the_float_error_of_masks_of_42_bits_leaves_room_before_rounding(ring_size):
    assert EXACT_BITS == 42
    p = parameters(ring_size, EXACT_BITS)
    planes = mask_tiles(KEY, p, LANES)[0].reshape(p.mask_planes, -1)
    masks, size, constants = masks_of(p, LANES), SLOTS * LANES, roots(SLOTS)
    for secret in secrets_of(p, 5):
        spectra, block, work = pads._spectra(secret[None])[0], np.empty(size), np.empty(size)
        for i in range(ring_size // SLOTS):
            load_digits(planes[:, i * size : (i + 1) * size], block)
            forward(block, *constants)
            pads._multiply_add(block, spectra[i], i == 0, work)
        inverse(work, *constants)
        error = work.reshape(SLOTS, LANES) - module_products(masks, secret)
        assert np.abs(error).max() < 1 / 4
        assert error.std() < 1 / 25  # 1/2 is more than 12 standard deviations away


def client_of(inputs=40, outputs=7, bits=8):
    weight = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (inputs, outputs))
    backend = load("packed")
    plan = backend.plan(weight, bits)
    return weight, backend.client(plan).prepare(weight), backend.server(plan, weight)


def rows(count, inputs=40):
    return np.random.default_rng(count).integers(-128, 128, (count, inputs))


def test_a_slot_is_used_once_and_wiped():
    weight, client, server = client_of()
    question = client.encrypt(rows(3))
    ((pad, taken),) = client.keys.secret[question.question_id].slots
    assert taken == slice(0, 3)
    assert not pad.low[:3].any() and not pad.high[:3].any()
    assert pad.low[3:].all(axis=1).any() and pad.high[3:].any()
    answer = server.matmul(question)
    client.get_ready(question)
    assert pad._phase[:, :7].any(axis=1).all()
    assert pad._spectra is None  # with which phases could be made again
    np.testing.assert_array_equal(client.decrypt(answer), rows(3) @ weight)
    assert not pad._phase[:3].any()
    assert pad._phase[3:, :7].any(axis=1).all()
    forgotten = client.encrypt(rows(2))
    assert client.keys.secret[forgotten.question_id].slots == [(pad, slice(3, 5))]
    client.forget(forgotten)
    assert not any(part[:5].any() for part in (pad.low, pad.high, pad._phase))
    assert not client.keys.secret
    assert pad.left == SLOTS - 5


@pytest.mark.parametrize("bits", [8, 16])
def test_rows_that_span_two_pads_are_exact_and_wiped_in_both(bits):
    weight, client, server = client_of(bits=bits)
    client.decrypt(server.matmul(client.encrypt(rows(500))))
    question = client.encrypt(rows(600))
    (first, a), (second, b) = client.keys.secret[question.question_id].slots
    assert (a, b) == (slice(500, 512), slice(0, 588))
    assert second.slots == 2 * SLOTS
    np.testing.assert_array_equal(client.decrypt(server.matmul(question)), rows(600) @ weight)
    assert not first.low.any() and not first.high.any() and not first._phase.any()
    assert not second.low[:588].any() and not second._phase[:588].any()
    assert second.low[588:].any() and second._phase[588:].any()
    assert client._pad is second


def test_a_full_pad_is_kept_by_its_questions_alone():
    _, client, server = client_of()
    question = client.encrypt(rows(SLOTS))
    assert client._pad is None
    client.decrypt(server.matmul(question))
    assert not client.keys.secret


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_does_not_give_slots_out_again():
    _, client, _ = client_of()
    client.encrypt(rows(3))
    pad, child = client._pad, os.fork()
    if not child:
        try:
            pad.take(1)
        except RuntimeError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pad.take(1) == slice(3, 4)
