"""Tables, figure and answer of the stage overflow, on made-up rows."""

import pytest
from synthetic_overflow import overflow_rows
from synthetic_results import write_results

from private_lora.publish.figures.overflow import overflow_by_bits
from private_lora.publish.report.answers_overflow import overflow as answer
from private_lora.publish.report.lines import Tables
from private_lora.publish.tables import TABLES, make_table
from private_lora.publish.tables.overflow import shape_bits
from private_lora.results.reader import Data


@pytest.fixture
def data(tmp_path):
    return Data(write_results(tmp_path, overflow_rows(), [], block=[]))


def test_shares_and_losses_stand_beside_the_integers_and_the_published(data):
    table = TABLES["overflow"](data)
    ours = table[table["backend"] != "published"].set_index(["sums", "activation_bits"])
    assert len(ours) == 6 and set(ours["basis"]) == {"measured", "simulated"}
    unsigned, safe, integer = ours.loc[("unsigned", 12.0)], ours.loc[("signed", 8.0)], ours.loc[("", 12.0)]
    assert (unsigned["wrapped_forward_percent"], unsigned["wrapped_backward_percent"]) == (10, 0)
    assert unsigned["eval_loss_over_integer"] == pytest.approx(2.5)
    assert (unsigned["worst_case_bits"], unsigned["products_that_could_wrap"]) == (32, 4)
    assert (safe["wrapped_forward_percent"], safe["products_that_could_wrap"], safe["worst_case_bits"]) == (0, 0, 24)
    assert unsigned["run_ids"] == "over-wrap_unsigned-12 over-integer-12"
    assert integer[["eval_loss_over_integer", "wrapped_forward_percent", "worst_case_bits"]].isna().all()
    (published,) = table[table["backend"] == "published"].to_dict("records")
    assert (published["eval_loss"], published["certainty"], published["basis"]) == (13.64, "certain", "published")
    assert published["source"] and published["activation_bits"] == 16


def test_each_layer_has_its_worst_case_beside_what_happened(data):
    table = TABLES["overflow_layers"](data)
    assert len(table) == 4 * 2 * 2
    down = table[(table["layer"] == "mlp.down_proj") & (table["sums"] == "signed") & (table["activation_bits"] == 12)]
    assert list(down["wrapped_percent"]) == [0, 10] and list(down["phase"]) == ["backward", "forward"]
    assert set(down["shape_bits"]) == {shape_bits(512, 12, 12)}


def test_bits_of_a_shape_are_those_of_the_published_rule():
    # (2^n - 1) 2^(n-1) k < 2^26, a bit less than the sign has: 8 bits fit 2,048 inputs and not 8,192, 7 bits fit both.
    assert shape_bits(2048, 8, 8) == pytest.approx(26.994, abs=1e-3)
    assert shape_bits(8192, 8, 8) > 27 > shape_bits(8192, 7, 7)
    assert shape_bits(16, 12, 12) > 27


def test_the_figure_says_where_outputs_begin_to_wrap(data):
    figure, points = overflow_by_bits(data)
    said = " ".join(figure.get_suptitle().split())
    assert said.endswith("mini-llama, DTok-SC, 40 steps at 12 (signed sums) and 12 (unsigned sums)")
    shares = points[points["panel"].str.endswith("wrapped")]
    assert set(shares["y"]) == {0, 10} and len(shares) == 2 * 2 * 2
    assert 13.64 in set(points["y"])


def test_the_answer_names_the_fewest_bits_and_the_worst_loss(data, tmp_path):
    make_table("overflow", data, tmp_path / "overflow.csv")
    found = answer(Tables(tmp_path, ["overflow"]))
    assert "in 2 of 4 simulated runs" in found.sentence.text
    assert "from 12 bits (mini-llama, signed sums) and 12 bits (mini-llama, unsigned sums) on" in found.sentence.text
    assert [sentence.basis for sentence in found.more] == ["simulated", "published"]
    assert "2.25" in found.more[0].text and "13.64" in found.more[1].text


def test_no_other_table_counts_these_runs_among_its_own(data):
    for name in ("final_loss", "encryption_counters"):
        assert not len(TABLES[name](data))
    (line,) = (row for _, row in TABLES["published_comparison"](data).iterrows() if row["published"] == 13.64)
    assert "table overflow" in line["not_checked"]
