"""Figure of a whole block's time per token by the number of tokens in a batch."""

from __future__ import annotations

import itertools
import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    PLAINTEXT_COLOURS,
    Points,
    legend_below,
    panels,
    say_no_data,
)
from private_lora.publish.tables.block import GLWE, block_summary
from private_lora.results.labels import CALLS, LABELS, ids_of, join_basis
from private_lora.results.reader import Data
from private_lora.specs.backends import PLAINTEXT

COLOURS = BACKEND_COLOURS | PLAINTEXT_COLOURS
# Measurements beside each other in the figure: more would leave no room for their titles.
IN_A_ROW = 3
# Who works, with line and marker.
SIDES = {"server": ("solid", "o"), "client": ("dashed", "s")}


def block_latency(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Milliseconds per token of a block, forward and backward, by tokens per batch: plaintext, server and client.

    A panel for each model, device and machine, with layers apart and with joint inputs; only models measured at more than one
    batch size, if there are any.
    """
    summary = block_summary(data)
    # glwe is four orders of magnitude away, and measured on a row of some layers: the table has it.
    summary = summary[summary["whole"].astype(bool) & (summary["backend"] != GLWE)]
    sizes = summary.groupby("model")["tokens"].transform("nunique")
    summary = summary[sizes > 1] if (sizes > 1).any() else summary
    kinds = [kind for _, kind in summary.groupby(["model", "device", "machine", "inputs"], sort=False)] or [summary]
    columns = min(IN_A_ROW, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure, axes = panels(rows, columns, height=4.2 if rows == 1 else 3.2)
    points = Points()
    for kind, ax in itertools.zip_longest(kinds, axes.flat):
        if kind is None:
            ax.set_axis_off()
        else:
            _kind(kind, ax, points)
    for row in axes:
        row[0].set_ylabel("time per token (ms)")
    legend_below(figure, list(axes.flat), columns=3)
    return figure, points.frame()


def _kind(kind: pd.DataFrame, ax: Axes, points: Points) -> None:
    """A panel with its title."""
    ax.set_xlabel("tokens per batch")
    if not len(kind):
        return say_no_data(ax)
    model, inputs, machine = kind.iloc[0][["model", "inputs", "machine"]]
    _panel(kind, ax, points, ", ".join(part for part in (f"{model} {inputs}", machine) if part))
    # Of a GPU the title has room for its own name, not for the processor's beside it.
    ax.set_title(f"{model} block\n{CALLS[inputs]}\n{machine.split(' beside ')[0]}", loc="left")
    return None


def _panel(summary: pd.DataFrame, ax: Axes, points: Points, panel: str) -> None:
    for (backend, options), group in summary.groupby(["backend", "options"], sort=False):
        for side in SIDES if backend not in PLAINTEXT else ("server",):
            _line(group, backend, options, side, ax, points, panel)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sorted(set(summary["tokens"])))
    ax.xaxis.set_minor_locator(NullLocator())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _line(group: pd.DataFrame, backend: str, options: str, side: str, ax: Axes, points: Points, panel: str) -> None:
    """One line: the median over repeats, and over runs of the same setting."""
    name = f"{LABELS.get(backend, backend)} {options}".strip()
    label = name if backend in PLAINTEXT else f"{name}, {side}"
    linestyle, marker = SIDES[side]
    times = group.groupby("tokens")[f"{side}_ms_per_token"].median().dropna()
    if not len(times):
        return
    style = {"color": COLOURS.get(backend, GREY), "linestyle": linestyle, "marker": "" if backend in PLAINTEXT else marker}
    if backend in PLAINTEXT:
        style |= {"linewidth": 2.6, "alpha": 0.6, "marker": "_", "markersize": 14, "markeredgewidth": 2.6}
    elif options:  # beside the same backend at its default options
        style |= {"markerfacecolor": "white", "alpha": 0.6}
    ax.plot(times.index, times, label=label, **({"markersize": 4} | style))
    points.add(panel, label, times.index, times.to_numpy(), join_basis(group["basis"]), run_ids=ids_of(group["run_id"]))
