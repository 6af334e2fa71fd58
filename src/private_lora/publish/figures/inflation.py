"""Figures of what noise in the zero rows of a gradient does: its norm predicted and measured, and the loss by optimizer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    FLOAT_LINE,
    GREY,
    Points,
    digits,
    legend_below,
    log_y,
    no_data,
    panels,
    say,
)
from private_lora.publish.tables.encryption import PUBLISHED_STEPS
from private_lora.publish.tables.inflation import inflation_prediction as table_of
from private_lora.publish.tables.inflation import inflation_steps
from private_lora.results.labels import in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import OK, rows_of, run_metric, series_of

WITHIN = 0.2
SMOOTHED = 10
ROWS = {"": ("float32", "-"), "exact": ("exact rows", "-"), "reference": ("reference rows", "--")}


def inflation_prediction(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Ratio of gradient norms by step, measured against predicted, with the range of the published ones."""
    steps = inflation_steps(data)
    if not len(steps):
        return no_data()
    figure, axes = panels(1, 1, height=3.6)
    ax, points = axes[0][0], Points()
    for i, (keys, group) in enumerate(steps.groupby(["model", "variant", "backend"], sort=False)):
        share = group["noisy_row_share"].mean()
        name = f"{', '.join(k for k in keys[:2] if k)}: {100 * share:.0f} % zero rows ({join_basis(group['basis'])})"
        ax.plot(group["ratio_predicted"], group["ratio_measured"], "osD^v<>"[i % 7], label=name, markersize=4, alpha=0.7)
        for ids, run in group.groupby("run_ids", sort=False):
            points.add("predicted", name, run["ratio_predicted"], run["ratio_measured"], join_basis(run["basis"]), run_ids=ids)
    _guides(ax, steps[["ratio_predicted", "ratio_measured"]].to_numpy(), data)
    ax.set_xlabel("predicted gradient norm over clear")
    ax.set_ylabel("measured ratio")
    errors = table_of(data)["error_percent"].dropna()
    said = ", ".join(f"{error:+.0f} %" for error in errors)
    say(figure, f"Predicted over measured inflation, medians of {len(errors)} settings: {said}")
    legend_below(figure, [ax], columns=2)
    return figure, points.frame()


def _guides(ax: Axes, ratios: np.ndarray, data: Data) -> None:
    """The line of exact predictions, those 20 % off, and the published range."""
    ends = np.array([ratios.min(), ratios.max()])
    ax.plot(ends, ends, color=GREY, linewidth=0.8)
    for factor in (1 - WITHIN, 1 + WITHIN):
        ax.plot(ends, factor * ends, ":", color=GREY, linewidth=0.8)
    rows = data.published_values
    rows = rows[(rows["item"] == PUBLISHED_STEPS) & rows["metric"].str.startswith("grad_norm_ratio_to_clear")]
    if len(rows):
        ax.axhspan(rows["value"].min(), rows["value"].max(), color=GREY, alpha=0.15, label="published (Llama-3.2-1B)")
    ax.set_xscale("log")
    ax.set_yscale("log")


def inflation_by_optimizer(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Training loss under AdamW and SGD where an SGD run shares model and data: float, exact and reference rows."""
    runs = _compared(data)
    if not len(runs):
        return no_data()
    figure, axes = panels(1, 2, height=3.2, sharey=True)
    points = Points()
    for ax, (is_sgd, name) in zip(axes[0], ((0, "AdamW"), (1, "SGD")), strict=True):
        ax.set_title(f"{name}: {runs['model'].iloc[0]}", loc="left")
        ax.set_xlabel("training step")
        for _, run in in_order(runs[runs["sgd"] == is_sgd], ["backend", "constant_rows"]).iterrows():
            _loss(data, run, ax, points, name)
    log_y(axes[0][0])
    axes[0][0].set_ylabel("training loss (nats)")
    say(figure, _finding(points.frame()))
    legend_below(figure, list(axes[0]), columns=3)
    return figure, points.frame()


def _compared(data: Data) -> pd.DataFrame:
    """Runs of one seed of the first model that was trained with both optimizers, as long with one as with the other."""
    runs = data.runs[data.runs["stage"] == "inflation"].copy()
    runs["sgd"] = [run_metric(rows_of(data.convergence, run), "sgd") for _, run in runs.iterrows()]
    runs = runs[runs["backend"].isin(["float", "glwe_simulated"])]
    for _, group in runs.groupby(["model", "dataset", "seed", "steps"], sort=False):
        if {0, 1} <= set(group["sgd"]):
            return group
    return runs.iloc[:0]


def _loss(data: Data, run: pd.Series, ax: Axes, points: Points, panel: str) -> None:
    losses = series_of(rows_of(data.convergence, run), "train", "loss").rolling(SMOOTHED, min_periods=1).mean()
    name, line = ROWS[run["constant_rows"] if run["backend"] != "float" else ""]
    name = f"{name}{'' if run['status'] == OK else ', ' + run['status']} ({run['basis']})"
    style = FLOAT_LINE if run["backend"] == "float" else {"color": BACKEND_COLOURS[run["backend"]], "linestyle": line}
    ax.plot(losses.index, losses, label=name, **style)
    points.add(panel, name, losses.index, losses.to_numpy(), run["basis"], run_ids=run["run_id"])


def _finding(points: pd.DataFrame) -> str:
    """Where the curves end."""
    told = []
    for panel, group in points.groupby("panel", sort=False):
        ends = group.groupby("series", sort=False)["y"].last()
        told.append(f"{panel}: {', '.join(f'{digits(end, 3)} {name}' for name, end in ends.items())}")
    return f"Loss at the end. {'; '.join(told)}"
