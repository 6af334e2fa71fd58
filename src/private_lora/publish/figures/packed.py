"""Figure of the packed stage: the encrypted loss curve on top of the exact one, and what approximation adds."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import BACKEND_COLOURS, Points, legend_below, log_y, panels, say_no_data, study_name
from private_lora.publish.tables.packed import exact_twin, packed_runs
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, series_of

CURVES = {
    "float": {"linewidth": 3.2, "color": "#bbbbbb"},
    "integer": {"linewidth": 1.2},
    "packed": {"linestyle": "none", "marker": "o", "markersize": 3, "markevery": 4, "fillstyle": "none"},
}
Q_COLOURS = {22: "#E69F00", 24: "#009E73", 26: "#0072B2"}


def packed_loss(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Left: training loss of the longest run. Right: distance from `integer` by step, approximate mode and prediction."""
    runs = packed_runs(data)
    figure, axes = panels(1, 2, height=3.8)
    points = Points()
    left, right = axes[0]
    _curves(data, runs[runs["steps"] == runs["steps"].max()], left, points)
    _differences(data, runs, right, points)
    left.set_ylabel("training loss (nats per token)")
    right.set_ylabel("|loss - integer| (nats per token)")
    for ax in (left, right):
        ax.set_xlabel("training step")
    legend_below(figure, [left, right], columns=3)
    return figure, points.frame()


def _curves(data: Data, runs: pd.DataFrame, ax: Axes, points: Points) -> None:
    chosen = runs[runs["backend"].isin(list(CURVES)) & ((runs["activation_bits"] == 8) | (runs["backend"] == "float"))]
    ax.set_title(study_name(chosen), loc="left")
    for name, style in CURVES.items():
        for _, run in chosen[chosen["backend"] == name].iterrows():
            losses = series_of(rows_of(data.convergence, run), "train", "loss")
            label = name if name == "float" else f"{name}, {run['activation_bits']:.0f} bits"
            ax.plot(losses.index, losses, label=label, **({"color": BACKEND_COLOURS[name]} | style))
            points.add("loss", label, losses.index, losses.to_numpy(), run["basis"], run_ids=run["run_id"])
    log_y(ax) if len(chosen) else say_no_data(ax)


def _differences(data: Data, runs: pd.DataFrame, ax: Axes, points: Points) -> None:
    drawn = False
    for _, run in runs[runs["backend"].isin(["packed_approx", "packed_simulated"])].iterrows():
        reference = exact_twin(runs, run)
        if reference is None:
            continue
        losses, exact = (series_of(rows_of(data.convergence, r), "train", "loss") for r in (run, reference))
        gap = (losses - exact).abs()
        bits = int(run["largest_log2_q"])
        label = f"{run['backend']}, log2 Q = {bits}"
        line = "solid" if run["backend"] == "packed_approx" else "dotted"
        ax.plot(gap.index, gap.where(gap > 0), label=label, linestyle=line, color=Q_COLOURS.get(bits, "#888888"))
        points.add("difference", label, gap.index, gap.to_numpy(), run["basis"], run_ids=ids_of(run["run_id"], reference))
        drawn = True
    equal = runs[runs["backend"] == "packed"]
    ax.set_title(_equal_title(equal), loc="left")
    log_y(ax) if drawn else say_no_data(ax)


def _equal_title(packed: pd.DataFrame) -> str:
    """How many steps of the exact runs equal the integers', which a logarithmic axis cannot show."""
    if not len(packed):
        return "distance from integer"
    equal, steps = packed["steps_equal_to_integer"].sum(), packed["steps"].sum()
    return f"packed (exact): 0 at {equal:.0f} of {steps:.0f} steps, {len(packed)} runs"
