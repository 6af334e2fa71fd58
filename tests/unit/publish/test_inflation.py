"""Predicted inflation of gradients: the formula on a stack of layers, and what table and figures say of made-up records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_inflation import PREDICTED, optimizer_rows, probed_rows
from synthetic_results import inflation_rows, write_results

from private_lora.publish.figures import FIGURES
from private_lora.publish.tables import TABLES
from private_lora.publish.tables.inflation import predicted_ratio
from private_lora.results.reader import Data


@settings(max_examples=10, deadline=None)
@given(
    rows=st.integers(4, 12),
    zero=st.integers(1, 3),
    noise_std=st.floats(0.5, 40),
    size=st.floats(0.01, 10),
    seed=st.integers(0, 2**16),
)
def test_the_formula_is_the_mean_over_noise_through_a_linear_stack(rows, zero, noise_std, size, seed):
    """Two frozen layers in backward, an adapter under each: g1 = g W2 + noise, g0 = g1 W1, gradients X_i^T g_i."""
    random = np.random.default_rng(seed)
    inputs, hidden, outputs, rank = 6, 8, 10, 2
    w1, w2 = random.normal(size=(hidden, inputs)), random.normal(size=(outputs, hidden))
    x0, x1 = random.normal(size=(rows, rank)), random.normal(size=(rows, rank))
    scale = random.uniform(0.5, 1.5, hidden) * 0.01
    g = size * random.normal(size=(rows, outputs))
    g[:zero] = 0

    def squares(g1):
        return ((x0.T @ (g1 @ w1)) ** 2).sum((-1, -2)) + ((x1.T @ g1) ** 2).sum((-1, -2))

    norm = np.sqrt(squares(g @ w2))
    # J's squared norm, entry by entry: the exact mean over random signs.
    exact = sum(
        scale[c] ** 2 * ((x1[t] ** 2).sum() + (x0[t] ** 2).sum() * (w1[c] ** 2).sum())
        for t in range(zero)
        for c in range(hidden)
    )
    root = np.sqrt((scale**2).mean())
    expected = predicted_ratio(zero / rows, rows, root, noise_std, exact / (zero * root**2), norm)
    noise = np.zeros((20_000, rows, hidden))
    noise[:, :zero] = np.rint(noise_std * random.standard_normal((20_000, zero, hidden))) * scale
    measured = np.sqrt(squares(g @ w2 + noise).mean()) / norm
    assert measured == pytest.approx(expected, rel=0.06)  # rounding to integers adds 1/12 to a variance of 1/4


def test_without_noise_or_zero_rows_nothing_is_inflated():
    assert predicted_ratio(0.5, 64, 0.01, 0.0, 250, 2) == 1
    assert predicted_ratio(0.0, 64, 0.01, 19.0, 250, 2) == 1


def data(root, *rows):
    return Data(write_results(root, [row for part in rows for row in part], []))


def test_the_table_has_the_prediction_beside_what_was_measured_and_the_published_range(tmp_path):
    made = TABLES["inflation_prediction"](data(tmp_path, probed_rows(), probed_rows(PREDICTED * 1.25, "more")))
    ours = made[made["basis"] != "published"].set_index("variant")
    assert ours["ratio_predicted_median"].tolist() == pytest.approx([PREDICTED] * 2)
    assert ours.loc["published setting", "error_percent"] == pytest.approx(0, abs=1e-9)
    assert ours.loc["more", "error_percent"] == pytest.approx(-20)
    assert ours.loc["more", "run_ids"] == "probed-more-noisy probed-more-integer"
    assert (ours["noisy_row_share"] == 0.5).all() and (ours["padding_counted"] == 1).all()
    published = made[made["basis"] == "published"].set_index("variant")
    assert published["ratio_measured_median"].to_dict() == {"step1": 14.2, "smallest": 8, "largest": 27}
    assert published["ratio_predicted_median"].isna().all() and (published["certainty"] == "certain").all()


def test_runs_that_were_not_probed_are_not_predicted(tmp_path):
    found = data(tmp_path, inflation_rows())
    assert TABLES["inflation_prediction"](found).empty
    assert FIGURES["inflation_prediction"](found)[1].empty and FIGURES["inflation_by_optimizer"](found)[1].empty


def test_variants_are_compared_with_their_own_float_run(tmp_path):
    made = TABLES["gradient_inflation"](data(tmp_path, optimizer_rows()))
    ids = made[made["constant_rows"] == "reference"].set_index("variant")["run_ids"]
    assert ids.to_dict() == {"AdamW": "AdamW-ref AdamW-float", "SGD": "SGD-ref SGD-float"}


def test_figures_show_steps_against_the_line_and_both_optimizers(tmp_path):
    found = data(tmp_path, probed_rows(), optimizer_rows(), inflation_rows())
    figure, points = FIGURES["inflation_prediction"](found)
    assert points["x"].tolist() == pytest.approx([PREDICTED] * 5) == points["y"].tolist()
    assert "+0 %" in figure.get_suptitle().replace("-0", "+0")
    figure, points = FIGURES["inflation_by_optimizer"](found)
    ends = points.groupby(["panel", "series"])["y"].last()
    assert set(ends.index.get_level_values(0)) == {"AdamW", "SGD"} and len(ends) == 6
    assert ends["SGD", "reference rows (simulated)"] > ends["SGD", "exact rows (simulated)"]
    # The figure of the default study leaves these to their own.
    assert set(FIGURES["gradient_inflation"](found)[1]["run_ids"]) == {"inf-float", "inf-exact", "inf-ref"}
