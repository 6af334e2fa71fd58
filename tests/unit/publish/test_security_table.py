"""Table of the parameters of encrypted runs, on made-up rows: a line for each ring size, margins as the caps have them."""

import json

import pytest
from synthetic_results import packed_rows, run_rows, write_results

from private_lora.publish.tables.security import security
from private_lora.results.reader import Data


def parameters(ring_size, log2_q, **others):
    return {"parameters": {"ring_size": ring_size, "log2_q": log2_q, **others}}


@pytest.fixture
def lines(tmp_path):
    again = run_rows("again", 0.9, backend="packed", stage="packed")
    fresh = [row | {"options": '{"mask":"fresh"}'} for row in run_rows("fresh", 0.9, backend="packed", stage="sweep")]
    data = Data(write_results(tmp_path, packed_rows() + again + fresh, [], False, []))
    # Its largest ring is far from its cap, and most of its products have another.
    layers = {"a": parameters(1024, 25), "b": parameters(1024, 26), "c": parameters(1024, 26), "d": parameters(2048, 29)}
    (tmp_path / "runs" / "fresh" / "sidecar.json").write_text(json.dumps({"layers": layers}))
    return security(data).set_index(["backend", "mask", "ring_size"])


def test_runs_of_the_same_scheme_and_ring_are_one_line(lines):
    exact = ("packed", "session", 2048)
    assert set(lines.index) == {
        exact, ("packed", "fresh", 1024), ("packed", "fresh", 2048), ("packed_approx", "session", 2048)
    }  # fmt: skip
    assert (lines.loc[exact, "runs"], lines.loc[exact, "run_ids"]) == (2, "pk-packed again")


def test_margins_are_what_is_left_to_the_caps_of_each_ring(lines):
    # By the tables of the scheme: 26 and 21 for N = 1024, 53 and 41 for N = 2048.
    margins = lines[["largest_log2_q", "classical_margin_bits", "quantum_margin_bits", "share_of_products"]]
    assert margins.loc["packed", "session", 2048].tolist() == [40, 13, 1, 1]
    assert margins.loc["packed", "fresh", 1024].tolist() == [26, 0, -5, 0.75]
    assert margins.loc["packed", "fresh", 2048].tolist() == [29, 24, 12, 0.25]


def test_what_was_simulated_or_not_encrypted_has_no_line(lines, tmp_path):
    assert not set(lines.index.get_level_values("backend")) & {"packed_simulated", "integer", "float"}
    assert not len(security(Data(write_results(tmp_path / "none", [], [], False, []))))
