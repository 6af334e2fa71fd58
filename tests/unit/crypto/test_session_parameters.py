"""Parameters of a session: 128 bits after as many secrets as a mask may have, failures as rare as asked, nothing too large."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from private_lora.crypto.parameters import LARGEST_LOG2_Q, LARGEST_MASK_BITS
from private_lora.crypto.security import COLUMNS, SECURITY_BITS, estimate, security_caps
from private_lora.crypto.session_parameters import (
    MOST_DROPPED_BITS,
    SECRETS_LOG2,
    SessionParameters,
    choose_session_approximate,
    choose_session_exact,
    session_caps,
)

SECURITY_CAPS = {column: security_caps(column) for column in COLUMNS}
TABLES = list(SECURITY_CAPS)
BOUNDS = st.floats(0, 36).map(lambda bits: int(2**bits))
NORMS = st.floats(0, 15).map(lambda bits: 2**bits)
TARGETS = st.sampled_from([-20.0, -40.0, -64.0, -100.0])
COMMON = st.sampled_from([0, 0, 1, 6])


@pytest.mark.parametrize("table", TABLES)
def test_the_caps_leave_128_bits_after_all_secrets(table):
    assert SECRETS_LOG2 == 20
    for size, cap in session_caps(table).items():
        assert estimate(table, size, cap).bits - SECRETS_LOG2 >= SECURITY_BITS
        assert estimate(table, size, cap + 1).bits - SECRETS_LOG2 < SECURITY_BITS


@pytest.mark.parametrize(("table", "size"), [(table, size) for table in TABLES for size in SECURITY_CAPS[table]])
def test_one_bit_beyond_a_cap_is_refused(table, size):
    largest = min(session_caps(table)[size], LARGEST_LOG2_Q)

    def parameters(log2_q):
        return SessionParameters(size, log2_q, 0, 0, min(log2_q, LARGEST_MASK_BITS), log2_q, table)

    assert parameters(largest).log2_q == largest
    with pytest.raises(ValueError, match=rf"outside 2 to {largest}, the {table} .* N = {size}$") as caught:
        parameters(largest + 1)
    assert "\n" not in str(caught.value)


def chosen(bound, norm, target, table, common_bits=0):
    try:
        return choose_session_exact(bound, norm, target, table, common_bits)
    except ValueError:
        return None


@given(BOUNDS, NORMS, TARGETS, st.sampled_from(TABLES), COMMON)
@settings(max_examples=60)
def test_chosen_parameters_keep_their_promises(bound, norm, target, table, common_bits):
    p = chosen(bound, norm, target, table, common_bits)
    assume(p is not None)
    assert p.failure_log2(norm) <= target
    assert p.failure_log2(norm / 2) <= p.failure_log2(norm)
    assert p.log2_q <= session_caps(table)[p.ring_size]
    assert (p.table, p.common_bits) == (table, common_bits)
    # What a message is multiplied with is a multiple of what is uploaded, so rounding a pad is all the rounding there is.
    assert p.delta % 2**p.dropped_bits == 0
    assert 0 < p.delta * (2 * bound + 1) <= 2**p.log2_q < (p.delta + 2**p.dropped_bits) * (2 * bound + 1)


def fitting(ring_size, log2_q, bound, norm, target, table):
    """Byte planes of every number of dropped bits that works, with answers and hints that lose nothing."""
    planes = []
    for dropped in range(min(MOST_DROPPED_BITS, log2_q - 2) + 1):
        delta = 2**log2_q // (2 * bound + 1) >> dropped << dropped
        if delta:
            mask_bits = min(LARGEST_MASK_BITS, log2_q)
            p = SessionParameters(ring_size, log2_q, delta, dropped, mask_bits, log2_q - dropped, table, phase_bits=mask_bits)
            if p.failure_log2(norm) <= target:
                planes.append(p.body_planes)
    return planes


@given(BOUNDS, NORMS, TARGETS, st.sampled_from(TABLES))
@settings(max_examples=30)
def test_no_smaller_ring_and_no_fewer_planes_would_do(bound, norm, target, table):
    p = chosen(bound, norm, target, table)
    assume(p is not None)
    for size, cap in session_caps(table).items():
        found = [
            planes for q in range(3, min(cap, LARGEST_LOG2_Q) + 1) for planes in fitting(size, q, bound, norm, target, table)
        ]
        if size < p.ring_size:
            assert not found
        elif size == p.ring_size:
            assert min(found) == p.body_planes


@given(BOUNDS, NORMS)
@settings(max_examples=30)
def test_no_shorter_body_and_no_shorter_hint_would_do(bound, norm):
    p = chosen(bound, norm, -64.0, "matzov")
    assume(p is not None)
    if p.mask_bits > 1:
        assert replace(p, mask_bits=p.mask_bits - 1).failure_log2(norm) > -64
    if 2 ** (p.body_bits - 1) > 2 * bound + 1:
        whole = replace(p, mask_bits=min(p.log2_q, LARGEST_MASK_BITS))
        assert replace(whole, body_bits=p.body_bits - 1).failure_log2(norm) > -64


@pytest.mark.parametrize(("inputs", "planes"), [(2048, 5), (8192, 6)])
def test_eight_bit_layers_take_the_planes_of_the_design(inputs, planes):
    norm = 73.9 * math.sqrt(inputs)  # of uniform 8-bit weights
    p = choose_session_exact(64 * inputs * 128, norm, -64.0, "matzov")
    assert (p.ring_size, p.body_planes) == (2048 if planes == 5 else p.ring_size, planes)


@pytest.mark.parametrize(
    ("table", "log2_q", "ring_size"), [("matzov", 22, 1024), ("matzov", 26, 2048), ("chaloy21_quantum", 26, 2048)]
)
@pytest.mark.parametrize("norm", [1.0, 100.0, 5000.0])
def test_the_short_answer_of_the_approximate_mode_adds_at_most_a_tenth(table, log2_q, ring_size, norm):
    p = choose_session_approximate(log2_q, norm, table)
    assert (p.ring_size, p.log2_q, p.delta) == (ring_size, log2_q, 0)
    assert p.dropped_bits <= 2
    assert p.pad_dropped_bits == 0  # the sum with a message at a scale of its own is rounded, not the pad
    whole = replace(p, mask_bits=log2_q, body_bits=p.upload_bits)
    assert whole.noise_variance(norm) <= p.noise_variance(norm) <= 1.1 * whole.noise_variance(norm)


@pytest.mark.parametrize(
    "ask", [lambda: choose_session_exact(2**50, 2.0**15, -64.0, "matzov"), lambda: choose_session_exact(9, 2.0, -64.0, "x")]
)
def test_what_is_not_possible_is_refused_in_one_line(ask):
    with pytest.raises(ValueError, match=r"use fewer bits or fewer inputs$|unknown security column 'x'") as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_the_report_says_what_many_secrets_cost():
    p = choose_session_exact(2**25, 1000.0, -64.0, "matzov")
    report = p.report(1000.0)
    assert (report["mask"], report["secrets_log2"]) == ("session", SECRETS_LOG2)
    assert report["matzov_bits_of_proof"] == pytest.approx(report["matzov_bits_of_one_secret"] - 20)
    assert report["matzov_bits_of_proof"] >= 128 and report["matzov_margin_log2_q"] >= 0
    assert report["failure_log2"] == p.failure_log2(1000.0) <= -64
    assert (report["upload_bits_per_value"], report["download_bits_per_value"]) == (p.upload_bits, p.body_bits)
    assert p.sent == (p.upload_bits, p.body_bits)
