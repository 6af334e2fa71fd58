"""Figures of time: operations of encrypted training, and latency of one layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import BACKEND_COLOURS, GREY, Points, legend_below, panels, say_no_data, study_name
from private_lora.publish.tables.encryption import STAGE_TIMES
from private_lora.publish.tables.layer import latency_summary
from private_lora.results.labels import DEFAULT_PAIR, bits_label, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of
from private_lora.specs.backends import BACKENDS

SHAPE = ["rows", "inputs", "outputs"]
LAYER_STAGES = ("encrypt_time_s", "matmul_time_s", "decrypt_time_s")


def time_by_operation(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds by operation of the protocol over a whole run, for each backend of the encrypted study."""
    runs = data.runs[data.runs["stage"] == "encrypted"]
    models = list(dict.fromkeys(runs["model"])) or [""]
    figure, axes = panels(1, len(models), height=3.6)
    points = Points()
    for model, ax in zip(models, axes[0], strict=True):
        _operation_bars(data, runs[runs["model"] == model], ax, points, model)
        ax.set_ylabel("time over the run, evaluation included (s)")
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _hatch(run) -> str | None:
    """What tells the bars of one backend apart."""
    if run["constant_rows"] == "reference":
        return "//"
    if run["variant"] == "disable":
        return ".."
    return "xx" if run["backend"] == "integer" and run["quantizer"] != DEFAULT_PAIR else None


def _operation_bars(data: Data, runs: pd.DataFrame, ax: Axes, points: Points, model: str) -> None:
    """Grouped, not stacked: on a logarithmic axis the parts of a stack cannot be compared."""
    bars = []
    for _, run in in_order(runs, ["backend", "variant", "constant_rows"]).iterrows():
        rows = rows_of(data.convergence, run)
        totals = rows[rows["phase"] == "run"].groupby("metric")["value"].first()
        values = [totals.get(stage, np.nan) for stage in (*STAGE_TIMES, "total_time_s")]
        if np.isfinite(values).any():
            bars.append((run, np.where(np.array(values) > 0, values, np.nan)))
    if not bars:
        return say_no_data(ax)
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
    ax.set_xticks(range(len(names)), names)
    ax.set_yscale("log")
    ax.set_title(study_name(runs), loc="left")
    return None


def layer_latency(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds of one layer by shape and backend, a panel per operation; whiskers: fastest and slowest repeat."""
    summary = latency_summary(data)
    summary = in_order(summary, ["inputs", "outputs", "rows", "backend", "device", "activation_bits"])
    summary = summary[summary["n_ok"] > 0].assign(
        shape=[f"{t:.0f}x{k:.0f}x{d:.0f}" for t, k, d in summary.loc[summary["n_ok"] > 0, SHAPE].to_numpy()],
        series=[_latency_name(line) for _, line in summary[summary["n_ok"] > 0].iterrows()],
    )
    figure, axes = panels(1, len(LAYER_STAGES), height=3.8, sharey=True)
    points = Points()
    for stage, ax in zip(LAYER_STAGES, axes[0], strict=True):
        _latency_bars(summary, stage, ax, points)
        ax.set_title(stage.removesuffix("_time_s"), loc="left")
        ax.set_xlabel("rows x inputs x outputs")
    axes[0][0].set_ylabel("time of one layer (s)")
    # The product is the operation that every backend has: its panel gives the order of the legend.
    legend_below(figure, [axes[0][1], axes[0][0], axes[0][2]], columns=4)
    return figure, points.frame()


def _latency_name(line) -> str:
    bits = bits_label(line["activation_bits"], line["weight_bits"])
    return f"{line['backend']}{f' {bits}-bit' if bits else ''} on {line['device']} ({line['basis']})"


def _latency_bars(summary: pd.DataFrame, stage: str, ax: Axes, points: Points) -> None:
    """A bar keeps its place in every panel, so that a backend without that stage leaves a gap."""
    if not (summary["metric"] == stage).any():
        return say_no_data(ax)
    shapes = list(dict.fromkeys(summary["shape"]))
    names = summary.drop_duplicates("series")
    names = in_order(names, ["backend", "device", "activation_bits"])
    width = 0.8 / len(names)
    for i, (_, kind) in enumerate(names.iterrows()):
        group = summary[(summary["series"] == kind["series"]) & (summary["metric"] == stage)]
        does_nothing = stage != "matmul_time_s" and not BACKENDS[kind["backend"]].encrypted
        if does_nothing or not len(group):
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
    return None
