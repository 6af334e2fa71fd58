"""Security in bits by cost model: our estimator beside the lattice-estimator's table, and caps that come from both."""

import pytest

from private_lora.crypto import security
from private_lora.crypto.estimator import COLUMNS, usvp_bits
from private_lora.crypto.security import FROM_TABLE, FROM_US, RING_SIZES, SECURITY_BITS, estimate, excess, report, security_caps

ROWS = [(n, q, row) for n, rows in security._table().items() for q, row in rows.items()]


@pytest.mark.parametrize("column", COLUMNS)
def test_our_estimator_is_within_two_bits_of_the_table(column):
    largest = max(abs(usvp_bits(column, n, q) - row[f"usvp_{column}"]) for n, q, row in ROWS)
    print(f"{column}: at most {largest:.3f} bits from the table")
    assert len(ROWS) >= 19 and largest <= 2


def test_the_caps_that_decide_by_default():
    assert security_caps("matzov") == {1024: 26, 2048: 53, 4096: 103, 8192: 206}


@pytest.mark.parametrize("bits", [SECURITY_BITS, SECURITY_BITS + 20])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_cap_is_the_largest_modulus_with_so_many_bits(column, bits):
    for size, cap in security_caps(column, bits).items():
        assert estimate(column, size, cap).bits >= bits > estimate(column, size, cap + 1).bits


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("size", RING_SIZES)
def test_bits_fall_as_the_modulus_grows(column, size):
    found = [estimate(column, size, q).bits for q in range(8, 64)]
    assert found == sorted(found, reverse=True)


def test_outside_of_the_table_the_estimate_is_lowered_by_what_the_table_was_below_it():
    assert estimate("matzov", 1024, 26) == (131.3, FROM_TABLE, "dual_hybrid")
    beyond = estimate("matzov", 4096, 60)
    assert beyond.basis == FROM_US and beyond.bits == pytest.approx(usvp_bits("matzov", 4096, 60) - excess("matzov"))


def test_a_report_says_bits_of_one_secret_and_of_the_proof_by_column():
    said = report("matzov", 2048, 46, 20)
    assert said["security_column"] == "matzov"
    assert [said[f"{name}_bits_of_one_secret"] for name in COLUMNS] == [149.4, 121.9, 108.7]
    assert [said[f"{name}_bits_of_proof"] for name in COLUMNS] == pytest.approx([129.4, 101.9, 88.7])
    assert said["matzov_margin_log2_q"] == 0 > said["adps16_margin_log2_q"]
    assert {said[f"{name}_basis"] for name in COLUMNS} == {FROM_TABLE}


@pytest.mark.parametrize(("name", "new"), [("classical", "matzov"), ("quantum", "chaloy21_quantum"), ("none", "matzov")])
def test_other_names_are_refused_with_those_that_are_known(name, new):
    with pytest.raises(ValueError, match=f"{name}.*{new}"):
        security_caps(name)
