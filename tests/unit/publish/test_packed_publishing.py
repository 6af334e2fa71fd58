"""The packed stage's table, figure and claims say what the rows say. All rows are made up."""

import pytest
from synthetic_results import packed_rows, run_rows, write_results

from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import plt
from private_lora.publish.tables import TABLES
from private_lora.results.reader import Data


def made(tmp_path, name, rows):
    return TABLES[name](Data(write_results(tmp_path, rows, [], published=False)))


def test_equal_losses_are_counted_step_by_step(tmp_path):
    table = made(tmp_path, "packed_training", packed_rows(steps=10)).set_index("label")
    assert table.loc["packed", "steps_equal_to_integer"] == 10
    assert table.loc["packed", "largest_step_difference"] == 0
    assert table.loc["packed_approx log2 Q 24", "steps_equal_to_integer"] < 10
    assert table.loc["packed_approx log2 Q 24", "noise_std_over_simulated"] == pytest.approx(1.03)
    assert table.loc["packed", "upload_bytes_per_row"] == pytest.approx(11_123_200 / 17_600)


def test_a_run_in_bf16_is_no_float32_and_stands_beside_all_others(tmp_path):
    rows = packed_rows(steps=10)
    plain = [row for row in rows if row["backend"] == "float"]
    assert plain
    half = [r | {"run_id": "half", "variant": "bf16", "options": '{"dtype":"bfloat16"}'} for r in plain]
    half = [r | {"value": r["value"] / 4} if r["metric"] == "step_time_s" else r for r in half]
    before = made(tmp_path / "before", "packed_training", rows).set_index("label")
    table = made(tmp_path / "after", "packed_training", half + rows).set_index("label")
    assert before["step_time_over_bf16"].isna().all()
    over_float32 = table.loc["packed", "step_time_over_float32"]
    assert over_float32 == before.loc["packed", "step_time_over_float32"] > 0
    assert table.loc["packed", "step_time_over_bf16"] == pytest.approx(4 * over_float32)
    assert table.loc["float bf16", "step_time_over_float32"] == 0.25
    assert "half" in table.loc["packed", "run_ids"].split()


def test_one_step_in_the_last_digit_is_seen(tmp_path):
    rows = packed_rows(steps=10)
    loss = next(r for r in rows if r["run_id"] == "pk-packed" and r["metric"] == "loss" and r["step"] == 7)
    loss["value"] += 1e-12
    table = made(tmp_path, "packed_training", rows).set_index("label")
    assert table.loc["packed", "steps_equal_to_integer"] == 9
    claims = made(tmp_path, "claims", rows).set_index("claim")
    (line,) = (c for c in claims.index if "very number" in c)
    assert claims.loc[line, "verdict"] == "MISSED"


def test_a_twin_of_another_length_or_width_is_none(tmp_path):
    rows = run_rows("a", stage="packed", backend="packed", steps=10)
    rows += run_rows("b", stage="packed", steps=20) + run_rows("c", stage="packed", steps=10, activation_bits=4, weight_bits=4)
    table = made(tmp_path, "packed_training", rows).set_index("label")
    assert table["steps_equal_to_integer"].isna().all()


def test_claims_of_the_packed_stage_are_met_by_good_rows(tmp_path):
    claims = made(tmp_path, "claims", packed_rows()).set_index("claim")
    packed = claims[[c.startswith("packed") for c in claims.index]]
    assert len(packed) >= 3
    assert set(packed.iloc[:3]["verdict"]) == {"met"}


def test_figure_shows_every_curve_and_counts_equal_steps(tmp_path):
    figure, points = FIGURES["packed_loss"](Data(write_results(tmp_path, packed_rows(steps=10), [], published=False)))
    assert set(points["series"]) == {
        "float",
        "integer, 8 bits",
        "packed, 8 bits",
        "packed_approx, log2 Q = 24",
        "packed_simulated, log2 Q = 24",
    }
    assert "integers' loss at 10 of 10 steps" in figure.get_suptitle()
    plt.close(figure)
