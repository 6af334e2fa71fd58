"""Figure of a whole block's time per token by the number of tokens in a batch."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    PLAINTEXT_COLOURS,
    Points,
    digits,
    is_encrypted,
    legend_below,
    no_data,
    panel_each,
    say,
    wrapped,
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
    kinds = [kind for _, kind in summary.groupby(["model", "device", "machine", "inputs"], sort=False)]
    # One batch is no line: the figure of equal batches shows it.
    lines = [kind for kind in kinds if kind["tokens"].nunique() > 1] or kinds
    if not lines:
        return no_data()
    points, columns = Points(), min(IN_A_ROW, len(lines))
    figure, axes = panel_each(len(lines), columns, height=4.2 if len(lines) <= columns else 3.2)
    for i, (kind, ax) in enumerate(zip(lines, axes, strict=True)):
        _kind(kind, ax, points, columns)
        ax.set_ylabel("" if i % columns else "time per token (ms)")
    say(figure, _finding(lines[0]))
    legend_below(figure, axes, columns=3)
    return figure, points.frame()


def _kind(kind: pd.DataFrame, ax: Axes, points: Points, columns: int) -> None:
    """A panel with its title."""
    model, inputs, machine = kind.iloc[0][["model", "inputs", "machine"]]
    _panel(kind, ax, points, ", ".join(part for part in (f"{model} {inputs}", machine) if part))
    # Of a GPU the title has room for its own name, not for the processor's beside it.
    texts = (f"{model} block ({join_basis(kind['basis'])})", CALLS[inputs], machine.split(" beside ")[0])
    ax.set_title("\n".join(wrapped(text, columns) for text in texts if text), loc="left")
    ax.set_xlabel("tokens per batch")


def _finding(kind: pd.DataFrame) -> str:
    """The product's time per token at the smallest and at the largest batch, of each scheme, float32 and int8."""
    few, many = kind["tokens"].min(), kind["tokens"].max()
    shown = kind[[is_encrypted(name) or name in ("plaintext_float32", "plaintext_int8") for name in kind["backend"]]]
    told = []
    for (backend, options), group in shown.groupby(["backend", "options"], sort=False):
        times = group.groupby("tokens")["server_ms_per_token"].median()
        ends = " to ".join(digits(times[tokens]) for tokens in sorted({few, many}) if tokens in times)
        told.append(f"{LABELS[backend]} {options}".strip() + f" {ends}")
    where = f"{kind['model'].iloc[0]}, {kind['machine'].iloc[0]}"
    return f"{where}: product's ms per token from {few:,.0f} to {many:,.0f} tokens: {'; '.join(told)}"


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
