"""Table of the parameters of encrypted runs, on made-up rows: a line for each ring size, bits as the estimates have them."""

import json

import pytest
from synthetic_results import packed_rows, run_rows, write_results

from private_lora.publish.tables.security import security
from private_lora.results.reader import Data


def parameters(ring_size, log2_q, **others):
    return {"parameters": {"table": "matzov", "ring_size": ring_size, "log2_q": log2_q, **others}}


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


def test_bits_are_those_of_the_largest_modulus_of_each_ring_by_cost_model(lines):
    bits = lines[["largest_log2_q", "matzov_bits", "adps16_bits_of_proof", "share_of_products"]]
    assert bits.loc["packed", "session", 2048].tolist() == [40, 173.1, 126.9, 1]
    assert bits.loc["packed", "fresh", 1024].tolist() == [26, 131.3, 104.8, 0.75]
    assert bits.loc["packed", "fresh", 2048].tolist()[::3] == [29, 0.25]


def test_what_was_simulated_or_not_encrypted_has_no_line(lines, tmp_path):
    assert not set(lines.index.get_level_values("backend")) & {"packed_simulated", "integer", "float"}
    assert not len(security(Data(write_results(tmp_path / "none", [], [], False, []))))
