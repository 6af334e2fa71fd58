"""Figures of encrypted against clear training: differences by step, and the gradient inflation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    FLOAT_LINE,
    GREY,
    RUNNING_MEAN,
    Points,
    digits,
    legend_below,
    log_y,
    no_data,
    panels,
    ratio,
    say,
    wrapped,
)
from private_lora.publish.tables.convergence import inflation_runs
from private_lora.publish.tables.encryption import encrypted_steps, published_steps
from private_lora.publish.tables.inflation import shown_apart
from private_lora.results.labels import ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, series_of

FEW_STEPS = 6
SAID = 4  # of the runs that are farthest from their clear ones


def encrypted_minus_clear(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Per step: loss minus the exact integer twin's and gradient norm over it; the published pair beside."""
    steps = encrypted_steps(data)
    steps = steps[steps["backend"] != "integer"]  # the line at zero
    published = published_steps(data)
    published = published[published["label"].str.endswith("FHE")].assign(backend="published")
    titles = ["ours: loss", "ours: gradient norm", "published (Llama-3.2-1B, 7 bits)"]
    quantities = ["loss_minus_integer", "grad_norm_over_integer", "loss_minus_integer"]
    shown = [
        (title, quantity, frame.assign(quantity=frame[quantity].astype(float)))
        for title, quantity, frame in zip(titles, quantities, [steps, steps, published], strict=True)
        if quantity in frame and np.isfinite(frame[quantity].astype(float)).any()
    ]
    if not shown:
        return no_data()
    figure, axes = panels(1, len(shown), height=4.6)
    points = Points()
    for ax, (title, quantity, frame) in zip(axes[0], shown, strict=True):
        _difference_panel(frame[np.isfinite(frame["quantity"])], ax, points, title)
        ax.set_title(wrapped(title, len(shown)), loc="left")
        ax.set_xlabel("training step")
        ax.set_ylabel("loss minus clear loss (nats)" if "minus" in quantity else "gradient norm over clear")
        if "norm" in title:
            log_y(ax)
    say(figure, _difference_finding(points.frame()))
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _difference_finding(points: pd.DataFrame) -> str:
    """How far the loss of every run is at most from that of its clear one."""
    points = points[points["panel"] != "ours: gradient norm"]
    most = points.assign(y=points["y"].abs()).groupby("series")["y"].max().nlargest(SAID)
    told = [f"{name.split(',')[0]} {digits(distance)}" for name, distance in most.items()]
    return f"Largest distances of a step's loss from the clear run's, in nats: {', '.join(told)}"


def _difference_panel(frame: pd.DataFrame, ax: Axes, points: Points, title: str) -> None:
    ax.axhline(1 if "norm" in title else 0, color=GREY, linewidth=0.8)
    for i, (keys, group) in enumerate(frame.groupby(["model", "label", "backend", "basis"], sort=False)):
        model, label, backend, basis = keys
        name = label if backend == "published" else f"{label}, {model} ({basis})"
        mean = group.groupby("step")["quantity"].mean()
        style = {"color": BACKEND_COLOURS.get(backend, GREY), "marker": "osD^v<>"[i % 7]}
        ax.plot(
            mean.index,
            mean,
            label=name,
            linestyle="--" if "reference" in label or "disable" in label else "-",
            markersize=4,
            **style,
        )
        points.add(title, name, mean.index, mean.to_numpy(), basis, run_ids=ids_of(group))
    if "loss" in title:
        # Runs differ by thousandths and by whole nats: linear near zero, logarithmic beyond.
        sizes = frame["quantity"].abs()
        typical = sizes[sizes > 0].median() if (sizes > 0).any() else 1e-3
        ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(typical)))
    ax.xaxis.get_major_locator().set_params(integer=True)


def gradient_inflation(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Gradient norm per step (top) and running-mean loss (below): float, exact and reference rows."""
    runs = inflation_runs(data)
    runs = runs[runs["backend"].isin(["float", "glwe", "glwe_simulated"]) & ~shown_apart(data, runs)]
    studies = [
        (s, m)
        for s, m in dict.fromkeys(zip(runs["stage"], runs["model"], strict=True))
        if ((runs["stage"] == s) & (runs["model"] == m) & (runs["backend"] != "float")).any()
    ]
    studies.sort(key=lambda study: study[0] != "inflation")
    if not studies:
        return no_data()
    figure, axes = panels(2, len(studies), height=3.2, sharex="col")
    points = Points()
    for (stage, model), column in zip(studies, axes.T, strict=True):
        chosen = runs[(runs["stage"] == stage) & (runs["model"] == model)]
        column[0].set_title(wrapped(f"{stage} study: {model}", len(studies)), loc="left")
        for ax, metric in zip(column, ("grad_norm", "running_mean_loss"), strict=True):
            _inflation_panel(data, chosen, metric, ax, points, f"{stage} {model} {metric}")
        column[1].set_xlabel("training step")
    axes[0][0].set_ylabel("gradient norm")
    axes[1][0].set_ylabel(RUNNING_MEAN)
    say(figure, _inflation_finding(runs, *studies[0]))
    legend_below(figure, list(axes.flat), columns=3)
    return figure, points.frame()


def _inflation_finding(runs: pd.DataFrame, stage: str, model: str) -> str:
    """Median gradient norm over float's of a study, by backend and treatment of constant rows."""
    chosen, told = runs[(runs["stage"] == stage) & (runs["model"] == model) & (runs["backend"] != "float")], []
    keys = ["backend", "constant_rows"]
    for (backend, rows), group in in_order(chosen, keys).groupby(keys, sort=False):
        over = group["grad_norm_median_over_float"].mean()
        if np.isfinite(over):
            told.append(f"{ratio(over)} with {rows} rows ({backend})")
    return f"{model}, {stage} study: median gradient norm over float's: {', '.join(told)}"


def _inflation_panel(data: Data, runs: pd.DataFrame, metric: str, ax: Axes, points: Points, panel: str) -> None:
    keys = ["backend", "label", "activation_bits", "constant_rows"]
    for (backend, label, _, rows), group in in_order(runs, keys).groupby(keys, dropna=False, sort=False):
        series = [series_of(rows_of(data.convergence, r), "train", metric) for _, r in group.iterrows()]
        table = pd.concat(series, axis=1).replace([np.inf, -np.inf], np.nan).dropna(how="all")
        if not len(table):
            continue
        basis = join_basis(group["basis"])
        name = f"{label if rows != 'exact' else label + ', exact rows'} ({basis})"
        style = {"color": BACKEND_COLOURS[backend], "linestyle": "--" if rows == "reference" else "-"}
        style |= FLOAT_LINE if backend == "float" else {}
        if len(table) < FEW_STEPS:
            style["marker"] = "s" if rows == "reference" else "o"  # one step is no line
        ax.plot(table.index, table.mean(axis=1), label=name, **style)
        low, high = table.min(axis=1), table.max(axis=1)
        points.add(panel, name, table.index, table.mean(axis=1), basis, low, high, ids_of(group))
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    log_y(ax)
