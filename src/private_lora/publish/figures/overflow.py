"""Figure of the stage overflow: loss, and share of outputs that wrapped around, by bits."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    ORANGE,
    Points,
    digits,
    legend_below,
    listed,
    log_y,
    no_data,
    panels,
    say,
)
from private_lora.publish.tables.overflow import PHASES, overflow, published_batch
from private_lora.results.labels import ids_of, join_basis
from private_lora.results.reader import Data

BITS = "activation_bits"
COLOURS = {"": BACKEND_COLOURS["integer"], "signed": BACKEND_COLOURS["glwe_simulated"], "unsigned": ORANGE}
NAMES = {"": "exact integers", "signed": "signed sums wrap", "unsigned": "unsigned sums wrap, as published"}
LEAST = 1e-3  # percent: below it the axis is linear, so that zero has a place


def overflow_by_bits(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Final loss (top) and share of wrapped outputs (bottom) by bits: a column for each model, quantizers and steps."""
    table, points = overflow(data), Points()
    ours = table[table["backend"] != "published"]
    shown = list(ours.groupby(["model", "quantizer", "requested_steps"], sort=False))
    if not shown:
        return no_data()
    figure, axes = panels(2, len(shown), sharex=True, sharey="row")
    for (names, runs), column in zip(shown, axes.T, strict=True):
        panel = ", ".join(_study(names))
        column[0].set_title("\n".join(_study(names)), loc="left")
        for sums, group in runs.groupby("sums", sort=False):
            _loss_line(group.sort_values(BITS), sums, column[0], points, panel)
            _share_lines(group.sort_values(BITS), sums, column[1], points, panel)
        _published(data, column[0], points, panel)
        column[1].set_xlabel("bits")
    axes[0][0].set_ylabel("eval loss at the end (nats)")
    axes[1][0].set_ylabel("outputs that wrapped (%)")
    log_y(axes[0][0])
    axes[1][0].set_yscale("symlog", linthresh=LEAST)
    axes[1][0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[1][0].set_ylim(0, 200)
    say(figure, _finding(shown))
    legend_below(figure, list(axes.flat), columns=3)
    return figure, points.frame()


def _study(names: tuple[str, str, float]) -> list[str]:
    """Model, quantizers and steps of a study."""
    model, quantizer, steps = names
    return [model, f"{quantizer}, {steps:.0f} steps"]


def _loss_line(runs: pd.DataFrame, sums: str, ax: Axes, points: Points, panel: str) -> None:
    ax.plot(runs[BITS], runs["eval_loss"], marker="o", markersize=4, color=COLOURS[sums], label=NAMES[sums])
    points.add(f"{panel}: loss", NAMES[sums], runs[BITS], runs["eval_loss"], join_basis(runs["basis"]), run_ids=ids_of(runs))


def _share_lines(runs: pd.DataFrame, sums: str, ax: Axes, points: Points, panel: str) -> None:
    for phase, style in zip(PHASES, ("-", "--"), strict=True):
        share = runs[f"wrapped_{phase}_percent"].astype(float)
        if share.notna().any():
            name = f"{NAMES[sums]}, {phase}"
            ax.plot(runs[BITS], share, style, marker="o", markersize=4, color=COLOURS[sums], label=name)
            points.add(f"{panel}: wrapped", name, runs[BITS], share, join_basis(runs["basis"]), run_ids=ids_of(runs))


def _published(data: Data, ax: Axes, points: Points, panel: str) -> None:
    for _, row in published_batch(data).iterrows():
        name = f"published, Llama-3.2-1B: {row['configuration']}"
        ax.plot([16], [row["value"]], "D", fillstyle="none", color=GREY, label=name)
        points.add(f"{panel}: loss", name, 16.0, row["value"], row["basis"])


def _finding(shown: list[tuple[tuple, pd.DataFrame]]) -> str:
    """At how many bits the first outputs wrapped, for each model and quantizers, by kind of sums."""
    told = []
    for names, runs in shown:
        wrapped = runs[[f"wrapped_{phase}_percent" for phase in PHASES]].astype(float).max(axis=1)
        begins = runs[wrapped > 0].groupby("sums", sort=False)[BITS].min()
        said = listed(f"{digits(bits)} ({sums} sums)" for sums, bits in begins.items()) if len(begins) else "none measured"
        told.append(f"{', '.join(_study(names))} at {said}")
    return f"Fewest bits at which outputs wrapped around: {'; '.join(told)}"
