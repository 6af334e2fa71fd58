"""Titles of figures say what the rows say, and change with them; crossings and gaps are right. All rows are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_results import block_rows, glwe_rows, run_rows, write_results

from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.bandwidth import EQUAL, HALF, crossings
from private_lora.publish.figures.loss_gap import published_gaps
from private_lora.publish.figures.style import digits, percent, plt, ratio
from private_lora.results.reader import Data


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure open behind a test."""
    yield
    plt.close("all")


def title(figure) -> str:
    return " ".join(figure.get_suptitle().split())


@pytest.mark.parametrize(("end", "told"), [(0.505, "+1 % (DTok-SC)"), (0.498, "-0.4 % (DTok-SC)")])
def test_gap_of_the_loss_is_in_the_title_and_on_the_axis(tmp_path, end, told):
    rows = run_rows("f0", 0.5, backend="float") + run_rows("q0", end)
    figure, points = FIGURES["final_loss_vs_bits"](Data(write_results(tmp_path, rows, [], published=False)))
    assert told in title(figure) and "one seed" in title(figure) and "published" not in title(figure)
    assert points["y"].tolist() == pytest.approx([100 * (end / 0.5 - 1)])
    assert len(figure.axes) == 1


def test_interval_reaches_from_seed_to_seed(tmp_path):
    rows = [row for seed in (0, 1) for row in run_rows(f"f{seed}", 0.5, backend="float", seed=seed)]
    rows += run_rows("q0", 0.51, seed=0) + run_rows("q1", 0.53, seed=1)
    figure, points = FIGURES["final_loss_vs_bits"](Data(write_results(tmp_path, rows, [])))
    ours = points[points["basis"] == "measured"].iloc[0]
    assert (ours["y"], ours["y_min"], ours["y_max"]) == pytest.approx((4, 2, 6))
    assert "2 seeds" in title(figure)
    # The published curves' ends, from resources/reference.
    told = points[points["basis"] == "published"].set_index(["series", "x"])["y"]
    assert told["DTok-SC, published", 8] == pytest.approx(100 * (0.26877 / 0.26704 - 1))
    assert told["ST-ST, published", 8] == pytest.approx(100 * (2.12899 / 0.26704 - 1))


def test_published_gaps_need_the_published_float():
    columns = ["series", "quantizer", "bits", "step", "running_mean_train_loss"]
    curves = pd.DataFrame(
        [("a", "DTok-SC", "8", 1, 9.0), ("a", "DTok-SC", "8", 2, 3.0), ("f", "float", "", 2, 2.0)], columns=columns
    )
    assert published_gaps(curves)["gap"].tolist() == [50]
    assert not len(published_gaps(curves.iloc[:2]))


def test_a_run_that_failed_is_a_panel_and_in_no_mean(tmp_path):
    rows = run_rows("f0", backend="float") + run_rows("q0", np.nan)
    figure, points = FIGURES["final_loss_vs_bits"](Data(write_results(tmp_path, rows, [], published=False)))
    assert title(figure) == "No quantized run ended with a loss to compare with float's"
    assert "DTok-SC: diverged" in set(points["series"])


LINE = {"client_time_s": 3.0, "server_time_s": 5.0, "handling_time_s": 2.0}
LINE |= {"upload_bytes": 6e8, "download_bytes": 4e8, "round_trips": 100}


def test_crossings_are_where_the_network_takes_what_is_left():
    # 8e9 bits; 100 round trips of 10 ms take a second.
    found = crossings(pd.Series(LINE), alone=19.0, latency=0.01)
    assert found[HALF] == pytest.approx((8e9 / 9, 20.0))
    assert found[EQUAL] == pytest.approx((8e9 / 8, 19.0))


@pytest.mark.parametrize("alone", [10.0, 11.0, np.nan])
def test_no_bandwidth_is_enough_for_a_step_that_is_slower_without_a_network(alone):
    assert set(crossings(pd.Series(LINE), alone, latency=0.01)) == {HALF}


@pytest.mark.parametrize(("packed", "told"), [(1.9, "packed 1.90×"), (0.5, "packed 0.50×")])
def test_equal_batches_are_compared_in_one_process(tmp_path, packed, told):
    rows = block_rows((2048,), ratios={"packed": ((packed,) * 3, (0.3,) * 3)}, glwe=False) + glwe_rows()
    figure, points = FIGURES["equal_batch"](Data(write_results(tmp_path, [], [], published=False, block=rows)))
    assert told + " float32" in title(figure)
    glwe = points[points["series"].str.startswith("glwe")]
    assert set(glwe["basis"]) == {"extrapolated"}
    assert not glwe["panel"].str.endswith("ratio").any()
    server = points[(points["series"] == "glwe, server")]["y"].iloc[0]
    row = sum(r["value"] for r in glwe_rows() if r["metric"] == "matmul_time_s" and r["repeat"] == 0)
    assert server == pytest.approx(2048 * row)


def test_machines_have_panels_of_their_own(tmp_path):
    rows = block_rows((2048,), glwe=False)
    other = [row | {"machine": "another"} for row in rows]
    figure, points = FIGURES["equal_batch"](Data(write_results(tmp_path, [], [], published=False, block=rows + other)))
    assert len({panel.rsplit(":", 1)[0] for panel in points["panel"]}) == 2
    assert len(figure.axes) == 6


def test_numbers_are_never_powers_of_ten():
    assert (digits(85_432), digits(0.000193), percent(697.3), percent(-0.47)) == ("85,000", "0.00019", "+700 %", "-0.47 %")
    assert (ratio(1.004), ratio(13.2)) == ("1.00×", "13×")
