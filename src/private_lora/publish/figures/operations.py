"""Figures of time: operations of encrypted training, and latency of one layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    Points,
    digits,
    is_encrypted,
    legend_below,
    no_data,
    panels,
    ratio,
    say,
    study_name,
    wrapped,
)
from private_lora.publish.tables.encryption import STAGE_TIMES
from private_lora.publish.tables.layer import latency_summary
from private_lora.results.labels import DEFAULT_PAIR, bits_label, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of

SHAPE = ["rows", "inputs", "outputs"]
LAYER_STAGES = ("encrypt_time_s", "matmul_time_s", "decrypt_time_s")


def time_by_operation(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds by operation of the protocol over a whole run, for each backend of the encrypted study."""
    runs = data.runs[data.runs["stage"] == "encrypted"]
    bars = {model: found for model, chosen in runs.groupby("model", sort=False) if (found := _bars_of(data, chosen))}
    if not bars:
        return no_data()
    figure, axes = panels(1, len(bars), height=4.6)
    points = Points()
    for (model, found), ax in zip(bars.items(), axes[0], strict=True):
        _operation_bars(found, ax, points, model)
        ax.set_title(wrapped(study_name(runs[runs["model"] == model]), len(bars)), loc="left")
    axes[0][0].set_ylabel("time over the run (s)")
    say(figure, _operation_finding(points.frame()))
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _operation_finding(points: pd.DataFrame) -> str:
    """Of the first panel: the longest operation, and how long that of the exact integers takes."""
    first = points[points["panel"] == points["panel"].iloc[0]]
    parts = first[(first["x"] != "total") & first["y"].notna()]
    most = parts.loc[parts["y"].idxmax()]
    text = f"{most['panel']}: {most['x']} of {most['series']} takes {digits(most['y'], 3)} s of the run"
    beside = parts[(parts["x"] == most["x"]) & parts["series"].str.startswith("integer")]["y"]
    return text + (f", {ratio(most['y'] / beside.iloc[0])} that of the exact integers" if len(beside) else "")


def _hatch(run) -> str | None:
    """What tells the bars of one backend apart."""
    if run["constant_rows"] == "reference":
        return "//"
    if run["variant"] == "disable":
        return ".."
    return "xx" if run["backend"] == "integer" and run["quantizer"] != DEFAULT_PAIR else None


def _bars_of(data: Data, runs: pd.DataFrame) -> list[tuple[pd.Series, np.ndarray]]:
    """Each run with its seconds by operation and in total, NaN where it did nothing; those without any are left out."""
    bars = []
    for _, run in in_order(runs, ["backend", "variant", "constant_rows"]).iterrows():
        rows = rows_of(data.convergence, run)
        totals = rows[rows["phase"] == "run"].groupby("metric")["value"].first()
        values = [totals.get(stage, np.nan) for stage in (*STAGE_TIMES, "total_time_s")]
        if np.isfinite(values).any():
            bars.append((run, np.where(np.array(values) > 0, values, np.nan)))
    return bars


def _operation_bars(bars: list[tuple[pd.Series, np.ndarray]], ax: Axes, points: Points, model: str) -> None:
    """Grouped, not stacked: on a logarithmic axis the parts of a stack cannot be compared."""
    names = [s.removesuffix("_time_s").replace("_", " ") for s in (*STAGE_TIMES, "total_time_s")]
    width = 0.85 / len(bars)
    for i, (run, values) in enumerate(bars):
        name = f"{run['label']} ({run['basis']})"
        place = np.arange(len(names)) + (i - (len(bars) - 1) / 2) * width
        ax.bar(
            place,
            values,
            width,
            color=BACKEND_COLOURS.get(run["backend"], GREY),
            hatch=_hatch(run),
            label=name,
            edgecolor="white",
            linewidth=0.4,
        )
        for stage, value in zip(names, values, strict=True):
            points.add(model, name, stage, value, run["basis"], run_ids=run["run_id"])
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yscale("log")


def layer_latency(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds of one layer by shape and backend, a panel per operation; whiskers: fastest and slowest repeat."""
    summary = latency_summary(data)
    summary = in_order(summary, ["inputs", "outputs", "rows", "backend", "device", "activation_bits"])
    summary = summary[summary["n_ok"] > 0].assign(
        shape=[f"{t:.0f}x{k:.0f}x{d:.0f}" for t, k, d in summary.loc[summary["n_ok"] > 0, SHAPE].to_numpy()],
        series=[_latency_name(line) for _, line in summary[summary["n_ok"] > 0].iterrows()],
    )
    shown = [stage for stage in LAYER_STAGES if _does(summary, stage).any()]
    if not shown:
        return no_data()
    figure, axes = panels(1, len(shown), height=3.6, sharey=True)
    points = Points()
    for stage, ax in zip(shown, axes[0], strict=True):
        _latency_bars(summary, stage, ax, points)
        ax.set_title(stage.removesuffix("_time_s"), loc="left")
        ax.set_xlabel("rows x inputs x outputs")
    axes[0][0].set_ylabel("time of one layer (s)")
    say(figure, _layer_finding(summary))
    # The product is the operation that every backend has: its panel gives the order of the legend.
    legend_below(figure, sorted(axes[0], key=lambda ax: ax.get_title(loc="left") != "matmul"), columns=4)
    return figure, points.frame()


def _does(summary: pd.DataFrame, stage: str) -> pd.Series:
    """Which lines are of an operation that the backend has: one that does not encrypt times it, and does nothing in it."""
    encrypts = pd.Series([is_encrypted(name) for name in summary["backend"]], index=summary.index, dtype=bool)
    return (summary["metric"] == stage) & (encrypts | (stage == "matmul_time_s"))


def _layer_finding(summary: pd.DataFrame) -> str:
    """The median product of every backend, of the largest shape."""
    products = summary[summary["metric"] == "matmul_time_s"]
    largest = products.loc[products[SHAPE].prod(axis=1).idxmax(), "shape"]
    found = products[products["shape"] == largest]
    told = ", ".join(f"{line['series'].rsplit(' (', 1)[0]} {digits(line['value_median'])} s" for _, line in found.iterrows())
    return f"Product of one {largest} layer: {told}"


def _latency_name(line) -> str:
    bits = bits_label(line["activation_bits"], line["weight_bits"])
    return f"{line['backend']}{f' {bits}-bit' if bits else ''} on {line['device']} ({line['basis']})"


def _latency_bars(summary: pd.DataFrame, stage: str, ax: Axes, points: Points) -> None:
    """A bar keeps its place in every panel, so that a backend without that stage leaves a gap."""
    shapes = list(dict.fromkeys(summary["shape"]))
    names = summary.drop_duplicates("series")
    names = in_order(names, ["backend", "device", "activation_bits"])
    width = 0.8 / len(names)
    for i, (_, kind) in enumerate(names.iterrows()):
        group = summary[(summary["series"] == kind["series"]) & _does(summary, stage)]
        if not len(group):
            continue
        middle, low, high = (group[f"value_{v}"].to_numpy() for v in ("median", "min", "max"))
        place = np.array([shapes.index(s) for s in group["shape"]]) + (i - (len(names) - 1) / 2) * width
        style = {"color": BACKEND_COLOURS.get(kind["backend"], GREY), "edgecolor": "white"}
        style |= {"hatch": "//" if kind["device"] == "cuda" else None, "error_kw": {"elinewidth": 0.8}}
        ax.bar(place, middle, width, label=kind["series"], yerr=[middle - low, high - middle], **style)
        for shape, m, a, b, ids in zip(group["shape"], middle, low, high, group["run_id"], strict=True):
            points.add(stage, kind["series"], shape, m, kind["basis"], a, b, ids)
    ax.set_xticks(range(len(shapes)), shapes, rotation=20, ha="right")
    ax.set_xlim(-0.5, len(shapes) - 0.5)
    ax.set_yscale("log")
