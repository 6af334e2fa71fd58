"""Steps through workers beside their predictions: what parts are taken from, and what the table says. All rows are made up."""

import numpy as np
import pytest
from synthetic_loopback import LINK, ONE, network_run
from synthetic_results import block_rows, full_size_rows, write_results

from private_lora.costs.arrangement import Arrangement
from private_lora.costs.inputs import schemes_of
from private_lora.publish.tables.cost_claims import cost_claims
from private_lora.publish.tables.cost_validation import cost_validation
from private_lora.results.reader import Data

# One step as the products that are made up for Llama-3.2-1B are measured: 2,048 tokens, each layer a call.
WHOLE = {"columns": {"model": ONE, "dataset": "random_tokens"}, "evaluations": (), "rows_per_question": 512}
TRAINED = {"evaluations": (), "losses": (5.5, 5.25, 5.0)}


def data(tmp_path, loopback, block=None) -> Data:
    block = block_rows(glwe=False) if block is None else block
    return Data(write_results(tmp_path, full_size_rows(), [], published=False, block=block, loopback=on_no_machine(loopback)))


def on_no_machine(rows):
    """As the made-up rows of the other stages are."""
    return [row | {"machine": ""} for row in rows]


def test_a_step_over_a_link_stands_beside_its_prediction(tmp_path):
    rows = network_run("in process", **TRAINED) + network_run("over a link", **TRAINED, **LINK)
    rows += network_run("2 shards and a replica", workers=3, products_held_by_1=100, products_held_by_2=100, **WHOLE, **LINK)
    found = data(tmp_path, rows)
    (line,) = (line for _, line in cost_validation(found).iterrows())
    assert (line["workers"], line["rows_per_question"], line["network"]) == (3, 512, "1000 Mbit/s, 0.5 ms")
    assert line["error_percent"] == pytest.approx(100 * (line["predicted_step_time_s"] / line["measured_step_time_s"] - 1))
    assert line["within_15_percent"] == "MISSED" and line["error_percent"] > 15
    assert line["unseen"] == ""  # its own products were measured, at these tokens, and mini-llama's messages over this link
    assert {name.split("-")[0] for name in line["run_ids"].split()} == {"loopback", "full", "block"}
    # What bytes take beside the wire: 99 and 396 MB in three steps, 2.5 s instead of 0.5 s, of which the link took some.
    size, trips = 495e6 / 3, 142 / 3
    beside = 2.25 - 0.5 - 8 * size / 1e9 - trips * 0.0005
    messages = found.costs[["upload_bytes", "download_bytes"]].sum(axis=1)[found.costs["run_id"].str.contains("replica")]
    assert line["handling_time_s"] == pytest.approx(beside / size * messages.iloc[0])


def test_an_error_below_zero_misses_too_and_keeps_its_sign(tmp_path):
    rows = network_run("2 shards", **WHOLE)
    slow = [row | {"value": 1e4} if row["metric"] == "step_time_s" else row for row in rows]
    found = data(tmp_path, slow)
    line = cost_validation(found).iloc[0]
    assert line["error_percent"] < -15 and line["within_15_percent"] == "MISSED"
    assert "not measured on this machine" in line["formula"] and line["handling_time_s"] == 0
    claim = [claim.line() for claim in cost_claims(found)][-1]
    assert claim["verdict"] == "no data"  # its batch and products were seen


def test_a_signed_claim_shows_the_farthest_error_with_its_sign(tmp_path):
    rows = full_size_rows()
    rows = [r | {"value": 1e3} if r["run_id"].endswith("packed-None") and r["metric"] == "step_time_s" else r for r in rows]
    found = Data(write_results(tmp_path, rows, [], published=False, block=block_rows(glwe=False)))
    claims = [claim.line() for claim in cost_claims(found)]
    (claim,) = (line for line in claims if line["claim"].startswith("cost model, step of Llama"))
    assert claim["value"] < -0.9 and claim["verdict"] == "MISSED" and claim["target"] == "-0.15 to +0.15"


def test_the_run_predicted_is_no_part_of_its_prediction(tmp_path):
    """What messages of a model take beside the wire is not taken from runs of that model."""
    rows = [network_run(name, recompute=1, **TRAINED, **link) for name, link in (("in process", {}), ("over a link", LINK))]
    table = cost_validation(data(tmp_path, [row for run in rows for row in run]))
    assert table["handling_time_s"].tolist() == [0]


def test_products_between_two_batches_are_on_a_line(tmp_path):
    block = data(tmp_path, []).block_of_all_machines
    (scheme,) = schemes_of(block, ["packed"])
    low, high, between = (scheme.at(tokens) for tokens in (512, 2048, 1280))
    for shape, cost in between.known.items():
        for name in ("matmul_time_s", "upload_ciphertext_bytes"):
            assert cost[name] == pytest.approx((low.known[shape][name] + high.known[shape][name]) / 2)
    assert between.formula == "products on a line between 512 and 2048 tokens"
    assert scheme.at(256) is None and scheme.at(4096) is None


@pytest.mark.parametrize(("rows", "expected"), [(None, [100]), (30, [30, 30, 30, 10]), (100, [100]), (400, [100])])
def test_questions_are_cut_as_the_client_cuts_them(rows, expected):
    how = Arrangement.of(1, 3, rows)
    assert how.questions(100) == expected
    shares = [sum(expected[first::3]) for first in range(3)]
    assert how.largest_share(100, 3) == pytest.approx(np.max(shares) / 100)
