"""Figure of the packed stage: the encrypted loss curve on top of the exact one, and what approximation adds."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    FLOAT_LINE,
    Points,
    digits,
    legend_below,
    log_y,
    no_data,
    panels,
    say,
    study_name,
    wrapped,
)
from private_lora.publish.tables.packed import exact_twin, packed_runs
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, series_of

CURVES = {
    "float": FLOAT_LINE,
    "integer": {"linewidth": 1.2},
    "packed": {"linestyle": "none", "marker": "o", "markersize": 3, "markevery": 4, "fillstyle": "none"},
}
MARKERS = "os^Dv<>"  # by size of the modulus


def packed_loss(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Left: training loss of the longest run. Right: distance from `integer` by step, approximate mode and prediction."""
    runs, points = packed_runs(data), Points()
    longest = runs[runs["steps"] == runs["steps"].max()]
    longest = longest[
        longest["backend"].isin(list(CURVES)) & ((longest["activation_bits"] == 8) | (longest["backend"] == "float"))
    ]
    inexact = runs[runs["backend"].isin(["packed_approx", "packed_simulated"])]
    twins = [(run, twin) for _, run in inexact.iterrows() if (twin := exact_twin(runs, run)) is not None]
    count = bool(len(longest)) + bool(twins)
    if not count:
        return no_data()
    figure, axes = panels(1, count, height=3.6)
    if len(longest):
        _curves(data, longest, axes[0][0], points)
    if twins:
        _differences(data, twins, axes[0][-1], points)
        axes[0][-1].set_title(wrapped(study_name(inexact), count), loc="left")
    for ax in axes[0]:
        ax.set_xlabel("training step")
        log_y(ax)
    say(figure, _finding(runs, points.frame()))
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _curves(data: Data, runs: pd.DataFrame, ax: Axes, points: Points) -> None:
    ax.set_title(wrapped(study_name(runs), 2), loc="left")
    ax.set_ylabel("training loss (nats per token)")
    for name, style in CURVES.items():
        for _, run in runs[runs["backend"] == name].iterrows():
            losses = series_of(rows_of(data.convergence, run), "train", "loss")
            label = name if name == "float" else f"{name}, {run['activation_bits']:.0f} bits"
            ax.plot(losses.index, losses, label=label, **({"color": BACKEND_COLOURS[name]} | style))
            points.add("loss", label, losses.index, losses.to_numpy(), run["basis"], run_ids=run["run_id"])


def _differences(data: Data, twins: list[tuple[pd.Series, pd.Series]], ax: Axes, points: Points) -> None:
    ax.set_ylabel("|loss - integer's| (nats)")
    sizes = sorted({int(run["largest_log2_q"]) for run, _ in twins})
    for run, exact in twins:
        losses, of_exact = (series_of(rows_of(data.convergence, r), "train", "loss") for r in (run, exact))
        gap, bits = (losses - of_exact).abs(), int(run["largest_log2_q"])
        label = f"{run['backend']}, log2 Q = {bits}"
        style = {"color": BACKEND_COLOURS[run["backend"]], "marker": MARKERS[sizes.index(bits) % len(MARKERS)], "markersize": 4}
        style["linestyle"] = "solid" if run["backend"] == "packed_approx" else "dotted"
        ax.plot(gap.index, gap.where(gap > 0), label=label, **style)
        points.add("difference", label, gap.index, gap.to_numpy(), run["basis"], run_ids=ids_of(run["run_id"], exact))


def _finding(runs: pd.DataFrame, points: pd.DataFrame) -> str:
    """At how many steps the exact runs equal the integers', which a logarithmic axis cannot show, and the largest distance."""
    told, packed = [], runs[runs["backend"] == "packed"]
    if len(packed):
        equal, steps = packed["steps_equal_to_integer"].sum(), packed["steps"].sum()
        told.append(f"packed has the exact integers' loss at {equal:.0f} of {steps:.0f} steps ({len(packed)} runs)")
    gaps = points[(points["panel"] == "difference") & points["series"].str.startswith("packed_approx")]
    if len(gaps):
        told.append(f"packed_approx is at most {digits(gaps['y'].max())} nats away")
    return "; ".join(told) or "Training loss under packed encryption"
