"""Figures of encrypted against clear training: differences by step, and the gradient inflation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    RUNNING_MEAN,
    Points,
    legend_below,
    log_y,
    panels,
    say_no_data,
)
from private_lora.publish.tables.convergence import inflation_runs
from private_lora.publish.tables.encryption import encrypted_steps, published_steps
from private_lora.results.labels import ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, series_of

FEW_STEPS = 6


def encrypted_minus_clear(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Per step: loss minus the exact integer twin's and gradient norm over it; the published pair beside."""
    steps = encrypted_steps(data)
    steps = steps[steps["backend"] != "integer"]  # the line at zero
    published = published_steps(data)
    published = published[published["label"].str.endswith("FHE")].assign(backend="published")
    figure, axes = panels(1, 3, height=3.6)
    points = Points()
    titles = ["ours: loss", "ours: gradient norm", "published (Llama-3.2-1B, 7 bits)"]
    quantities = ["loss_minus_integer", "grad_norm_over_integer", "loss_minus_integer"]
    for ax, title, quantity, frame in zip(axes[0], titles, quantities, [steps, steps, published], strict=True):
        frame = frame.assign(quantity=frame[quantity].astype(float)) if quantity in frame else frame.iloc[:0]
        _difference_panel(frame, ax, points, title)
        ax.set_title(title, loc="left")
        ax.set_xlabel("training step")
        ax.set_ylabel("loss minus clear loss (nats)" if "minus" in quantity else "gradient norm / clear gradient norm")
    if len(axes[0][1].lines):
        log_y(axes[0][1])
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _difference_panel(frame: pd.DataFrame, ax: Axes, points: Points, title: str) -> None:
    frame = frame[np.isfinite(frame["quantity"])] if "quantity" in frame else frame
    if not len(frame):
        return say_no_data(ax)
    ax.axhline(1 if "norm" in title else 0, color=GREY, linewidth=0.8)
    for i, (keys, group) in enumerate(frame.groupby(["model", "label", "backend", "basis"], sort=False)):
        model, label, backend, basis = keys
        name = label if backend == "published" else f"{label}, {model} ({basis})"
        mean = group.groupby("step")["quantity"].mean()
        style = {"color": BACKEND_COLOURS.get(backend, BACKEND_COLOURS["glwe"]), "marker": "osD^v<>"[i % 7]}
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
    return None


def gradient_inflation(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Gradient norm per step (top) and running-mean loss (below): float, exact and reference rows."""
    runs = inflation_runs(data)
    runs = runs[runs["backend"].isin(["float", "glwe", "glwe_simulated"])]
    studies = [
        (s, m)
        for s, m in dict.fromkeys(zip(runs["stage"], runs["model"], strict=True))
        if ((runs["stage"] == s) & (runs["model"] == m) & (runs["backend"] != "float")).any()
    ]
    studies.sort(key=lambda study: study[0] != "inflation")
    figure, axes = panels(2, max(1, len(studies)), sharex="col")
    points = Points()
    for (stage, model), column in zip(studies or [("", "")], axes.T, strict=True):
        chosen = runs[(runs["stage"] == stage) & (runs["model"] == model)]
        column[0].set_title(f"{stage} study: {model}" if model else "", loc="left")
        for ax, metric in zip(column, ("grad_norm", "running_mean_loss"), strict=True):
            _inflation_panel(data, chosen, metric, ax, points, f"{stage} {model} {metric}")
        column[1].set_xlabel("training step")
    axes[0][0].set_ylabel("gradient norm")
    axes[1][0].set_ylabel(RUNNING_MEAN, fontsize=7.5)
    legend_below(figure, list(axes.flat), columns=3)
    return figure, points.frame()


def _inflation_panel(data: Data, runs: pd.DataFrame, metric: str, ax: Axes, points: Points, panel: str) -> None:
    drawn = False
    keys = ["backend", "label", "activation_bits", "constant_rows"]
    for (backend, label, _, rows), group in in_order(runs, keys).groupby(keys, dropna=False, sort=False):
        series = [series_of(rows_of(data.convergence, r), "train", metric) for _, r in group.iterrows()]
        table = pd.concat(series, axis=1).replace([np.inf, -np.inf], np.nan).dropna(how="all")
        if not len(table):
            continue
        basis = join_basis(group["basis"])
        name = f"{label if rows != 'exact' else label + ', exact rows'} ({basis})"
        style = {"color": BACKEND_COLOURS[backend], "linestyle": "--" if rows == "reference" else "-"}
        style |= {"linewidth": 3, "alpha": 0.35} if backend == "float" else {}
        if len(table) < FEW_STEPS:
            style["marker"] = "s" if rows == "reference" else "o"  # one step is no line
        ax.plot(table.index, table.mean(axis=1), label=name, **style)
        low, high = table.min(axis=1), table.max(axis=1)
        points.add(panel, name, table.index, table.mean(axis=1), basis, low, high, ids_of(group))
        drawn = True
    if not drawn:
        return say_no_data(ax)
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return log_y(ax)
