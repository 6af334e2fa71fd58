"""Parameters: refused beyond the security caps, never less safe than asked for, and no larger than needed."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from private_lora.crypto.parameters import (
    LARGEST_LOG2_Q,
    MOST_DROPPED_BITS,
    PackedParameters,
    choose_approximate,
    choose_exact,
)
from private_lora.crypto.security import COLUMNS, security_caps

SECURITY_CAPS = {column: security_caps(column) for column in COLUMNS}
CAPS = [(table, size, cap) for table, caps in SECURITY_CAPS.items() for size, cap in caps.items()]


def parameters(ring_size, log2_q, table="matzov", **fields):
    values = {"delta": 0, "dropped_bits": 0, "mask_bits": log2_q, "body_bits": log2_q} | fields
    return PackedParameters(ring_size, log2_q, table=table, **values)


@pytest.mark.parametrize(("table", "ring_size", "cap"), CAPS)
def test_the_cap_is_accepted_and_one_more_bit_is_refused(table, ring_size, cap):
    largest = min(cap, LARGEST_LOG2_Q)
    assert parameters(ring_size, largest, table).log2_q == largest
    with pytest.raises(ValueError, match=rf"outside 2 to {largest}, the {table} .* N = {ring_size}$") as caught:
        parameters(ring_size, largest + 1, table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ring_size", [0, 1, 512, 1023, 16384, 2**63])
def test_unknown_ring_sizes_are_refused(ring_size):
    with pytest.raises(ValueError, match=f"ring size {ring_size} is none of 1024, 2048, 4096, 8192"):
        parameters(ring_size, 20)


def test_unknown_tables_are_refused_by_name():
    for ask in (
        lambda: security_caps("none"),
        lambda: parameters(1024, 20, "none"),
        lambda: choose_exact(100, 2.0, -64, "none"),
        lambda: choose_approximate(26, 2.0, "none"),
    ):
        with pytest.raises(ValueError, match="unknown security column 'none': known are matzov, adps16, chaloy21_quantum"):
            ask()


@pytest.mark.parametrize(
    "fields",
    [
        {"log2_q": 1},
        {"log2_q": -5},
        {"dropped_bits": -1},
        {"dropped_bits": 20},
        {"mask_bits": 0},
        {"mask_bits": 21},
        {"body_bits": 0},
        {"body_bits": 21},
        {"dropped_bits": 3, "body_bits": 18},
    ],
)
def test_widths_that_do_not_fit_the_modulus_are_refused(fields):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parameters(**({"ring_size": 1024, "log2_q": 20} | fields))


BOUNDS = st.floats(0, 36).map(lambda bits: int(2**bits))
NORMS = st.floats(0, 15).map(lambda bits: 2**bits)
TARGETS = st.sampled_from([-20.0, -40.0, -64.0, -100.0])


def chosen(bound, norm, target, table):
    try:
        return choose_exact(bound, norm, target, table)
    except ValueError:
        return None


@given(BOUNDS, NORMS, TARGETS, st.sampled_from(list(SECURITY_CAPS)))
@settings(max_examples=60)
def test_chosen_parameters_keep_their_promises(bound, norm, target, table):
    p = chosen(bound, norm, target, table)
    assume(p is not None)
    assert p.failure_log2(norm) <= target
    assert p.log2_q <= SECURITY_CAPS[table][p.ring_size]
    assert p.table == table
    # Twice the largest output and one half on both sides have room: nothing wraps around.
    assert 0 < p.delta * (2 * bound + 1) <= 2**p.log2_q < (p.delta + 1) * (2 * bound + 1)
    assert p.failure_log2(norm / 2) <= p.failure_log2(norm)


def fitting(ring_size, log2_q, bound, norm, target, table):
    """Whether any number of dropped bits works, with answers that lose nothing; by byte planes."""
    delta, planes = 2**log2_q // (2 * bound + 1), []
    for dropped in range(min(MOST_DROPPED_BITS, log2_q - 1) + 1 if delta else 0):
        widths = {"dropped_bits": dropped, "mask_bits": min(47, log2_q), "body_bits": log2_q - dropped}
        p = parameters(ring_size, log2_q, table, delta=delta, **widths)
        if p.failure_log2(norm) <= target:
            planes.append(p.mask_planes + p.body_planes)
    return planes


@given(BOUNDS, NORMS, TARGETS, st.sampled_from(list(SECURITY_CAPS)))
@settings(max_examples=40)
def test_nothing_smaller_than_what_is_chosen_would_do(bound, norm, target, table):
    p = chosen(bound, norm, target, table)
    assume(p is not None)
    rest = bound, norm, target, table
    smaller = [size for size in SECURITY_CAPS[table] if size < p.ring_size]
    assert not any(fitting(size, min(SECURITY_CAPS[table][size], LARGEST_LOG2_Q), *rest) for size in smaller)
    planes = p.mask_planes + p.body_planes
    for log2_q in range(2, min(SECURITY_CAPS[table][p.ring_size], LARGEST_LOG2_Q) + 1):
        found = fitting(p.ring_size, log2_q, *rest)
        assert min(found, default=planes) >= planes
        if log2_q < p.log2_q:
            assert planes not in found


@given(BOUNDS, NORMS)
@settings(max_examples=30)
def test_no_pair_of_shorter_answers_would_do(bound, norm):
    p = chosen(bound, norm, -64.0, "matzov")
    assume(p is not None)
    for body_bits in range(1, p.body_bits + p.mask_bits - 1):
        mask_bits = p.mask_bits + p.body_bits - 1 - body_bits
        if mask_bits <= p.log2_q and body_bits <= p.upload_bits and mask_bits <= 47:
            assert replace(p, mask_bits=mask_bits, body_bits=body_bits).failure_log2(norm) > -64


@given(BOUNDS, NORMS, TARGETS)
@settings(max_examples=40)
def test_the_quantum_table_asks_for_a_larger_ring_or_a_smaller_modulus(bound, norm, target):
    classical, quantum = (chosen(bound, norm, target, table) for table in ("matzov", "chaloy21_quantum"))
    if classical is None:
        assert quantum is None
    elif quantum is not None:
        assert quantum.ring_size >= classical.ring_size
        assert quantum.log2_q <= SECURITY_CAPS["chaloy21_quantum"][quantum.ring_size]
        assert replace(quantum, table="matzov") == classical or quantum.ring_size > classical.ring_size


def test_the_quantum_table_changes_what_the_defaults_choose():
    classical, quantum = (choose_exact(2**30, 2.0**11, -64.0, table) for table in ("matzov", "chaloy21_quantum"))
    assert (classical.ring_size, quantum.ring_size) == (2048, 4096)


@pytest.mark.parametrize("table", list(SECURITY_CAPS))
def test_what_cannot_be_decrypted_is_refused_in_one_line(table):
    with pytest.raises(
        ValueError, match=f"needs log2 Q of about .* {table} security caps: use fewer bits or fewer inputs$"
    ) as e:
        choose_exact(2**50, 2.0**15, -64.0, table)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("table", "log2_q", "ring_size"), [("matzov", 26, 1024), ("matzov", 27, 2048), ("chaloy21_quantum", 26, 2048)]
)
@pytest.mark.parametrize("norm", [1.0, 100.0, 5000.0])
def test_the_short_answer_of_the_approximate_mode_adds_at_most_a_tenth(table, log2_q, ring_size, norm):
    p = choose_approximate(log2_q, norm, table)
    assert (p.ring_size, p.log2_q, p.delta) == (ring_size, log2_q, 0)
    assert p.dropped_bits <= 2
    whole = replace(p, mask_bits=log2_q, body_bits=p.upload_bits)
    assert whole.noise_variance(norm) <= p.noise_variance(norm) <= 1.1 * whole.noise_variance(norm)


@pytest.mark.parametrize(("table", "log2_q"), [("matzov", 7), ("matzov", 63), ("matzov", 215), ("chaloy21_quantum", 166)])
def test_moduli_that_no_ring_allows_are_refused_for_the_approximate_mode(table, log2_q):
    with pytest.raises(ValueError, match=f"not {log2_q}"):
        choose_approximate(log2_q, 10.0, table)


def test_the_report_names_the_cost_models_and_the_expansion():
    p = choose_exact(2**25, 1000.0, -64.0, "matzov")
    report = p.report(1000.0)
    assert report["matzov_margin_log2_q"] == SECURITY_CAPS["matzov"][p.ring_size] - p.log2_q >= 0
    assert report["adps16_margin_log2_q"] == SECURITY_CAPS["adps16"][p.ring_size] - p.log2_q
    assert report["failure_log2"] == p.failure_log2(1000.0)
    assert "security_bits" not in report and report["security_column"] == "matzov"
    assert report["upload_bits_per_value"] == 8 * -(-(p.log2_q - p.dropped_bits) // 8)
    assert report["download_bits_per_value"] == p.mask_bits + p.body_bits
    assert p.sent == (p.ring_size, p.log2_q, p.dropped_bits, p.mask_bits, p.body_bits)
