"""Table of the parameters of every encrypted run, on made-up rows: one line for each modulus, margins as the caps have them."""

import pytest
from synthetic_results import packed_rows, run_rows, write_results

from private_lora.publish.tables.security import security
from private_lora.results.reader import Data


@pytest.fixture
def lines(tmp_path):
    again = run_rows("again", 0.9, backend="packed", stage="packed")
    fresh = [row | {"options": '{"mask":"fresh"}'} for row in run_rows("fresh", 0.9, backend="packed", stage="sweep")]
    return security(Data(write_results(tmp_path, packed_rows() + again + fresh, [], False, [])))


def test_runs_of_the_same_parameters_are_one_line(lines):
    found = {(line["backend"], line["mask"]): line for _, line in lines.iterrows()}
    assert set(found) == {("packed", "session"), ("packed", "fresh"), ("packed_approx", "session")}
    assert (found["packed", "session"]["runs"], found["packed", "session"]["run_ids"]) == (2, "pk-packed again")
    assert found["packed", "fresh"]["run_ids"] == "fresh"


def test_margins_are_what_is_left_to_the_caps(lines):
    exact = lines[(lines["backend"] == "packed") & (lines["mask"] == "session")].iloc[0]
    # By the tables of the scheme for N = 2048: 53 and 41.
    assert (exact["largest_ring_size"], exact["largest_log2_q"]) == (2048, 40)
    assert (exact["classical_cap_log2_q"], exact["classical_margin_bits"]) == (53, 13)
    assert (exact["quantum_cap_log2_q"], exact["quantum_margin_bits"]) == (41, 1)


def test_what_was_simulated_or_not_encrypted_has_no_line(lines, tmp_path):
    assert not set(lines["backend"]) & {"packed_simulated", "integer", "float"}
    assert not len(security(Data(write_results(tmp_path / "none", [], [], False, []))))
