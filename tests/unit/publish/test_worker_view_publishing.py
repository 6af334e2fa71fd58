"""Table and figure of what a worker receives, on made-up rows: shares, intervals, and what is said of them."""

import pandas as pd
import pytest
from synthetic_results import write_results
from synthetic_worker_view import view_rows, view_run

from private_lora.publish.figures.worker_view import worker_view as figure
from private_lora.publish.tables.intervals import wilson
from private_lora.publish.tables.worker_view import worker_view as table
from private_lora.results.reader import Data


@pytest.fixture
def data(tmp_path):
    larger = {"received_bits": 8, "correlation": 1.0, "encrypted_matmuls": 0, "vocabulary": 5000}
    rows = view_rows() + view_run("integer", 1, "larger", **larger)
    return Data(write_results(tmp_path, [], [], False, [], worker_view=rows))


def test_shares_have_their_intervals_and_stand_beside_chance(data):
    lines = table(data).set_index(["model", "backend"])
    clear, encrypted = lines.loc[("nano", "integer")], lines.loc[("nano", "packed")]
    assert (clear["recovered_tokens"], clear["recovered_percent"]) == (2, 50)
    low, high = wilson(2, 4)
    assert (clear["recovered_percent_low"], clear["recovered_percent_high"]) == (100 * low, 100 * high)
    assert (encrypted["recovered_percent"], encrypted["recovered_percent_low"]) == (0, 0)
    assert (clear["uniform_guess_percent"], clear["chance_percent"], clear["commonest_token_percent"]) == (1, 2, 50)
    assert encrypted["uniform_top_bits_p"] == 1
    # 1.96 / sqrt(403 - 3) = 0.098 on either side, by hand.
    assert (encrypted["correlation_low"], encrypted["correlation_high"]) == pytest.approx((-0.088, 0.1077), abs=5e-4)
    assert (encrypted["encrypted_matmuls"], clear["encrypted_matmuls"]) == (8, 0)


def test_the_figure_shows_each_worker_and_says_what_was_read_back(tmp_path):
    shown, points = figure(Data(write_results(tmp_path, [], [], False, [], worker_view=view_rows())))
    left, right = (ax for ax in shown.axes if ax.get_title(loc="left"))
    assert "nano: a worker reads back 50 % of the tokens sent in the clear and 0 % of the tokens encrypted by" in " ".join(
        shown.get_suptitle().split()
    )
    assert [label.get_text() for label in left.get_yticklabels()] == ["␣Ada", "⏎"]
    assert [label.get_text() for label in right.get_yticklabels()] == [r"\$x·"] * 2
    assert left.images[0].get_clim() == (-128, 128) and right.images[0].get_clim() == (-(2.0**36), 2.0**36)
    assert len(points) == 2 * 2 * 3 and set(points["run_ids"]) == {"worker-view_nano_integer", "worker-view_nano_packed"}


def test_of_several_models_the_one_with_most_words_is_shown(data):
    shown, points = figure(data)
    assert set(points["run_ids"]) == {"worker-view_larger_integer"}
    assert "25 % (" in shown.axes[0].get_title(loc="left")


def test_without_rows_the_figure_says_so(tmp_path):
    shown, points = figure(Data(write_results(tmp_path, [], [], False, [])))
    assert not len(points) and isinstance(points, pd.DataFrame)
    assert [text.get_text() for text in shown.axes[0].texts] == ["no data"]
