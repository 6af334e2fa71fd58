"""Figure of a whole block's time per token by the number of tokens in a batch."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from private_lora.figures.style import BACKEND_COLOURS, BLACK, BLUE, GREY, Points, legend_below, panels, say_no_data
from private_lora.publish_data import Data
from private_lora.registry import PLAINTEXT
from private_lora.tables.block import GLWE, block_summary

COLOURS = BACKEND_COLOURS | {"plaintext_float32": BLACK, "plaintext_int8": BLUE}
# Who works, with line and marker.
SIDES = {"server": ("solid", "o"), "client": ("dashed", "s")}


def block_latency(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Milliseconds per token of a block, forward and backward, by tokens per batch: plaintext, server and client."""
    summary = block_summary(data)
    # glwe is four orders of magnitude away, and measured on a row of some layers: the table has it.
    summary = summary[summary["whole"].astype(bool) & (summary["backend"] != GLWE)]
    kinds = list(dict.fromkeys(zip(summary["model"], summary["inputs"], strict=True))) or [("", "apart")]
    chosen = [summary[(summary["model"] == model) & (summary["inputs"] == inputs)] for model, inputs in kinds]
    # As wide as it has batch sizes: joint inputs may have been measured at one only.
    widths = [max(1, rows["tokens"].nunique()) for rows in chosen]
    figure, axes = panels(1, len(kinds), height=4.2, sharey=True, width_ratios=widths)
    points = Points()
    for (model, inputs), rows, ax in zip(kinds, chosen, axes[0], strict=True):
        _panel(rows, ax, points, f"{model} {inputs}".strip())
        title = f"{model} block, forward + backward: layers apart" if inputs == "apart" else "joint inputs"
        ax.set_title(title if model else "", loc="left")
        ax.set_xlabel("tokens per batch")
    axes[0][0].set_ylabel("time per token (ms)")
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _panel(summary: pd.DataFrame, ax: Axes, points: Points, panel: str) -> None:
    if not len(summary):
        return say_no_data(ax)
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
    return None


def _line(group: pd.DataFrame, backend: str, options: str, side: str, ax: Axes, points: Points, panel: str) -> None:
    """One line: the median over repeats, and over runs of the same setting."""
    name = f"{backend.replace('plaintext_', 'plaintext ')} {options}".strip()
    label = name if backend in PLAINTEXT else f"{name}, {side}"
    linestyle, marker = SIDES[side]
    times = group.groupby("tokens")[f"{side}_ms_per_token"].median().dropna()
    if not len(times):
        return
    style = {"color": COLOURS.get(backend, GREY), "linestyle": linestyle, "marker": "" if backend in PLAINTEXT else marker}
    if backend in PLAINTEXT:
        style |= {"linewidth": 2.6, "alpha": 0.6, "marker": "_", "markersize": 14, "markeredgewidth": 2.6}
    ax.plot(times.index, times, label=label, **({"markersize": 4} | style))
    points.add(panel, label, times.index, times.to_numpy(), ", ".join(sorted(set(group["basis"]))))
