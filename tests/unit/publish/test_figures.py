"""Figures plot what the rows say, save their points, and survive missing data. All rows are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_inflation import optimizer_rows, probed_rows
from synthetic_knowledge import knowledge_rows
from synthetic_loopback import network_rows
from synthetic_overflow import overflow_rows
from synthetic_results import (
    block_rows,
    encrypted_rows,
    full_size_rows,
    inflation_rows,
    layer_rows,
    packed_rows,
    run_rows,
    sweep_rows,
    write_results,
)
from synthetic_worker_view import view_rows

from private_lora.core.errors import UserError
from private_lora.publish.figures import FIGURES, make_figure
from private_lora.publish.figures.style import POINT_COLUMNS, plt
from private_lora.results.reader import Data


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Data:
    """A made-up small study: one model in the sweep, few bits, one seed."""
    rows = sweep_rows((4, 8), (0, 1), ("mini-llama",)) + encrypted_rows() + inflation_rows() + packed_rows() + probed_rows()
    rows += full_size_rows() + knowledge_rows(steps=8) + overflow_rows() + optimizer_rows()
    directory, latency = tmp_path_factory.mktemp("synthetic"), layer_rows(("1x256x256",))
    others = {"block": block_rows(), "loopback": network_rows(), "worker_view": view_rows()}
    return Data(write_results(directory, rows, latency, **others))


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure open behind a test."""
    yield
    plt.close("all")


def texts(figure) -> str:
    return "\n".join(t.get_text() for ax in figure.axes for t in ax.texts)


@pytest.mark.parametrize("name", FIGURES)
def test_every_point_is_recorded_with_its_basis(synthetic, name):
    figure, points = FIGURES[name](synthetic)
    assert list(points) == POINT_COLUMNS
    assert len(points) and (points["basis"] != "").all()
    assert (points.loc[points["basis"] != "published", "run_ids"] != "").all()
    assert "no data" not in texts(figure)
    assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes[-1:])


@pytest.mark.parametrize("name", FIGURES)
def test_missing_data_is_said_in_the_panel(tmp_path, name):
    figure, points = FIGURES[name](Data(write_results(tmp_path, [], [], published=False)))
    assert "no data" in texts(figure)
    assert not len(points)


def test_three_files_are_written_and_the_pdf_is_reproducible(tmp_path):
    data = write_results(tmp_path, [], layer_rows(("1x256x256",)), published=False)
    make_figure("layer_latency", data, tmp_path / "a.png")
    make_figure("layer_latency", data, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert len(pd.read_csv(tmp_path / "a.csv"))


def test_published_curves_stand_beside_ours_on_the_same_quantity(synthetic):
    figure, points = FIGURES["loss_curves"](synthetic)
    assert "published (Llama-3.2-1B, orca-math)" in texts(figure)
    assert "ours: mini-llama, math_problems (measured)" in texts(figure)
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    assert set(points["basis"]) == {"measured", "published"}
    last = points[(points["series"] == "FP32") & (points["x"] == 2500)]
    assert last["y"].iloc[0] == pytest.approx(0.26704)


def test_a_group_with_a_variant_has_a_panel_of_its_own(tmp_path):
    short = {"steps": 20, "variant": "short texts"}
    rows = run_rows("f0", backend="float") + run_rows("q0", 0.6)
    rows += run_rows("f1", backend="float", **short) + run_rows("q1", 0.7, **short)
    data = Data(write_results(tmp_path, rows, [], published=False))
    for name, pair in (("loss_curves", " DTok-SC"), ("final_loss_vs_bits", "")):
        figure, points = FIGURES[name](data)
        assert {f"mini-llama{pair}", f"mini-llama, short texts{pair}"} <= set(points["panel"])
        titles = " ".join((texts(figure) + "".join(ax.get_title(loc="left") for ax in figure.axes)).split())
        assert "ours: mini-llama, math_problems, short texts (measured)" in titles


def test_a_diverged_run_is_marked_and_not_dropped(tmp_path):
    rows = run_rows("f0", backend="float") + run_rows("q0", 0.6) + run_rows("q1", np.nan, activation_bits=4, weight_bits=4)
    figure, points = FIGURES["final_loss_vs_bits"](Data(write_results(tmp_path, rows, [], published=False)))
    assert "DTok-SC: diverged" in set(points["series"])
    assert "failed or diverged (any colour)" in figure.axes[0].get_legend_handles_labels()[1]
    assert 4 in figure.axes[0].get_xticks()


def test_difference_is_against_the_integer_twin(synthetic):
    _, points = FIGURES["encrypted_minus_clear"](synthetic)
    norm = points[(points["panel"] == "ours: gradient norm") & points["series"].str.startswith("glwe, nano")]
    assert np.allclose(norm["y"], 1.012)
    published = points[points["basis"] == "published"]
    assert published["y"].tolist() == pytest.approx([0.035, 0.074, 0.795, 0.005, -0.07])


def test_unknown_figure_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="known are knowledge, loss_curves"):
        make_figure("nonsense", tmp_path, tmp_path / "x.png")
