"""What is published of a real LLM's knowledge says what the rows say. All rows are made up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from synthetic_knowledge import GALLERY, SHARES, knowledge_rows, knowledge_run, through_workers
from synthetic_loopback import network_rows
from synthetic_results import run_rows, sweep_rows, write_results

from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import plt
from private_lora.publish.tables import TABLES
from private_lora.publish.tables.intervals import wilson
from private_lora.publish.tables.render import for_reading
from private_lora.results.reader import Data

SHORT = {"steps": 40, "questions": 40}


def data(tmp_path, rows, loopback=()) -> Data:
    return Data(write_results(tmp_path, rows, [], loopback=loopback, published=False))


def claims(tmp_path, rows, loopback=()):
    return TABLES["claims"](data(tmp_path, rows, loopback)).head(6)


def lines_of(tmp_path, rows, loopback=()):
    return TABLES["knowledge"](data(tmp_path, rows, loopback)).set_index(["backend", "arrangement"])


@pytest.mark.parametrize(("right", "asked"), [(0, 10), (10, 10), (490, 500), (1, 3), (7, 1000)])
def test_interval_is_scipys(right, asked):
    known = binomtest(right, asked).proportion_ci(0.95, method="wilson")
    assert wilson(right, asked) == pytest.approx((known.low, known.high), abs=1e-12)
    assert wilson(right, asked)[0] <= right / asked <= wilson(right, asked)[1]


def test_nothing_asked_has_no_interval():
    assert np.isnan(wilson(0, 0)).all()


def test_answers_are_pooled_over_seeds(tmp_path):
    made = lines_of(tmp_path, knowledge_rows())
    integer, packed = made.loc[("integer", "in process")], made.loc[("packed", "in process")]
    assert (integer["seeds"], integer["questions"], packed["questions"]) == (3, 1500, 500)
    # 490, 488 and 486 of 500.
    assert integer["exact_match_after_percent"] == pytest.approx(100 * 1464 / 1500)
    assert integer["exact_match_after_percent_low"] == pytest.approx(100 * wilson(1464, 1500)[0])
    assert packed["exact_match_before_percent"] == 0 and packed["guessing_percent"] == 3
    assert packed["general_loss_change_percent_mean"] == pytest.approx(1)
    assert packed["unrehearsed_loss_change_percent_mean"] == pytest.approx(1)
    assert packed["unanswerable_after_percent"] == pytest.approx(100 * 39 / 40)


def test_equality_bytes_and_times_of_the_encrypted_run(tmp_path):
    made = lines_of(tmp_path, knowledge_rows(), through_workers() + network_rows())
    for arrangement in ("in process", "2 workers"):
        line = made.loc[("packed", arrangement)]
        assert (line["losses_equal_to_integer"], line["evaluations_equal_to_integer"]) == ("320 of 320", "5 of 5")
        assert line["ciphertext_MB_per_train_token"] == pytest.approx(7 * 67_200 / (800 * 320))
        # The first step, ten times as long, is left out.
        assert (line["step_time_s_median"], line["step_time_s_max"]) == (5, 5)
        assert (line["step_time_over_float"], line["step_time_over_integer"]) == (5, 2.5)
        assert "knowledge-smollm2-knowledge_base-integer--0-320" in line["run_ids"].split()
    # A run through workers that nobody asked anything is not one of these.
    assert len(made) == 4 and set(made["model"]) == {"smollm2"}
    assert np.isnan(made.loc[("float", "in process"), "security_bits"])


def test_times_on_another_machine_have_no_ratio(tmp_path):
    rows = knowledge_run("integer") + knowledge_run("packed", machine="there")
    line = lines_of(tmp_path, rows).loc[("packed", "in process")]
    assert np.isnan(line["step_time_over_integer"]) and line["losses_equal_to_integer"] == "320 of 320"


def test_studies_of_one_data_set_stand_apart_and_the_larger_first(tmp_path):
    rows = knowledge_rows((0,), variant="20 facts", **SHORT) + knowledge_rows()
    rows += knowledge_rows((0,), dataset="jsonl", variant="GSM8K", questions=64, steps=20, shares=(0.0, 0.02))
    made = TABLES["knowledge"](data(tmp_path, rows))
    assert list(dict.fromkeys(zip(made["dataset"], made["variant"], strict=True))) == [
        ("knowledge_base", ""),
        ("knowledge_base", "20 facts"),
        ("jsonl", "GSM8K"),
    ]
    shown = for_reading(made)
    assert "bits per byte before" not in shown and "exact match after percent low" not in shown
    assert shown["exact match after percent"].iloc[2].startswith("98 [96.36")


def test_a_run_that_stopped_early_has_no_value_after(tmp_path):
    rows = [row | {"value": 400} if row["metric"] == "requested_steps" else row for row in knowledge_run("packed")]
    line = lines_of(tmp_path, rows).loc[("packed", "in process")]
    assert line["status"] == "stopped early (1 of 1)" and np.isnan(line["exact_match_after_percent"])


def test_gallery_shows_both_ends_and_marks_what_is_right(tmp_path):
    rows = knowledge_rows()
    made = TABLES["answers"](data(tmp_path, rows, through_workers()))
    assert made["question"].tolist() == [entry["question"] for entry in GALLERY]
    assert made.loc[0, "before_packed_8_bits"] == "1234 (wrong)"
    assert made.loc[0, "after_packed_8_bits"] == "4417 (right)"
    assert made.loc[0, "after_packed_8_bits, 2 workers"] == "4417 (right)"
    assert made.loc[1, "after_float"] == "I do not know. (wrong)"
    assert len(made.loc[0, "run_ids"].split()) == 4


def test_answers_are_no_disturbance(tmp_path):
    assert not data(tmp_path, knowledge_rows(), through_workers()).disturbed


def test_claims_come_first_and_are_met_by_good_rows(tmp_path):
    made = claims(
        tmp_path, knowledge_rows() + knowledge_rows((0,), variant="20 facts", shares=(0, 0.5), **SHORT), through_workers()
    )
    assert made["verdict"].tolist() == ["met"] * 6
    assert made.loc[0, "value"] == pytest.approx(98) and "98.0 % [96.4, 98.9] of 500 questions" in made.loc[0, "detail"]


def test_a_bit_off_too_few_answers_and_forgetting_miss_their_claims(tmp_path):
    worse = (*SHARES[:-1], 0.94)
    rows = knowledge_rows((0, 1)) + knowledge_run("packed", variant="worse", shares=worse)
    for row in rows:
        if row["backend"] == "packed" and row["metric"] == "general_loss" and row["step"] == 320:
            row["value"] = 3.1
    remote = through_workers()
    next(row for row in remote if row["metric"] == "loss" and row["phase"] == "train" and row["step"] == 7)["value"] += 1e-12
    made = claims(tmp_path, rows, remote)
    assert made["verdict"].tolist() == ["MISSED"] * 4 + ["met"] * 2
    assert made["value"].tolist()[:3] == [94, 1, 1]


def test_integer_outside_of_floats_interval_is_a_miss(tmp_path):
    rows = knowledge_run("float") + knowledge_run("integer", shares=(*SHARES[:-1], 0.9)) + knowledge_run("packed")
    line = claims(tmp_path, rows).iloc[5]
    assert line["verdict"] == "MISSED" and line["value"] == pytest.approx(100 * wilson(490, 500)[0] - 90)


def test_without_data_claims_say_so(tmp_path):
    assert claims(tmp_path, run_rows("a"))["verdict"].tolist() == ["no data"] * 6


@pytest.fixture
def figure_of(tmp_path):
    """The figure of rows and its points, closed behind the test."""
    yield lambda rows, loopback=(): FIGURES["knowledge"](data(tmp_path, rows, loopback))
    plt.close("all")


def test_figure_says_the_finding_and_shows_the_intervals(figure_of):
    figure, points = figure_of(knowledge_rows(), through_workers())
    finding = "smollm2: 98 % of 500 unseen questions answered after 320 encrypted steps, 0 % before; float 98 %"
    assert " ".join(figure.get_suptitle().split()) == finding
    exact = points[points["panel"].str.startswith("exact match")].set_index("series")
    packed = "packed, 8 bits, every product encrypted"
    assert {"float", "integer, 8 bits", packed, "guessing", "float, other seeds"} <= set(exact.index)
    assert f"{packed}, through workers (2 workers)" in exact.index
    last = exact.loc[packed].iloc[-1]
    assert (last["y_min"], last["y_max"]) == pytest.approx([100 * end for end in wilson(490, 500)])
    assert "mean of last 16 steps" in figure.axes[1].get_ylabel()


def test_figure_has_no_panel_without_data(figure_of):
    questions = {"exact_match", "exact_match_questions", "answer"}
    code = [row for row in knowledge_rows((0,), steps=10, dataset="private_code") if row["metric"] not in questions]
    figure, points = figure_of(knowledge_rows((0,), **SHORT) + code)
    assert len(figure.axes) == 3
    assert {"training loss, private_code", "exact match, knowledge_base"} <= set(points["panel"])


def test_figure_without_encrypted_run_does_not_say_encrypted(figure_of):
    figure, _ = figure_of(knowledge_run("float") + knowledge_run("integer"))
    assert "after 320 steps (integer)" in figure.get_suptitle()


def test_real_models_come_first_in_the_sweep(tmp_path):
    rows = sweep_rows((8,), (0,), ("mini-llama", "mini-llama-outlier"))
    real = [row | {"dataset": "jsonl", "variant": "GSM8K"} for row in sweep_rows((8,), (0,), ("smollm2",))]
    made = Data(write_results(tmp_path, rows + real, []))
    order = ["smollm2", "mini-llama", "mini-llama-outlier"]
    assert list(dict.fromkeys(TABLES["final_loss"](made)["model"])) == order
    compared = TABLES["published_comparison"](made)["our_setting"]
    assert compared.iloc[0] == "smollm2, jsonl (GSM8K), mean of 1 seeds"
    figure, points = FIGURES["final_loss_vs_bits"](made)
    assert list(dict.fromkeys(points["panel"])) == ["smollm2, GSM8K", *order[1:]]
    assert figure.axes[0].get_title(loc="left").startswith("ours: smollm2, GSM8K")
    figure, _ = FIGURES["loss_curves"](made)
    assert figure.axes[0].texts[0].get_text() == "ours: smollm2, GSM8K (measured)"
    plt.close("all")
