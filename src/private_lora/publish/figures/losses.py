"""Figure of the convergence study: loss curves beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from private_lora.publish.figures.style import (
    BITS_STYLES,
    FLOAT_LINE,
    GREY,
    PAIR_COLOURS,
    PUBLISHED,
    RUNNING_MEAN,
    Points,
    log_y,
    name_row,
    no_data,
    panels,
    percent,
    say,
    study_name,
)
from private_lora.results.labels import PAIRS, PUBLISHED_PAIRS, bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, series_of
from private_lora.specs.models import BUILT_IN_MODELS


def loss_curves(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Running mean of the training loss by step: a row per model and variant of ours, one of the published curves."""
    runs = data.runs[(data.runs["stage"] == "sweep") & (data.runs["backend"].isin(["float", "integer"]))]
    curves, studies, points = data.published_curves, studies_of(runs), Points()
    pairs = [p for p in PAIRS[1:] if p in PUBLISHED_PAIRS or p in set(runs["quantizer"])]
    rows = len(studies) + bool(len(curves))
    if not rows:
        return no_data()
    figure, axes = panels(rows, len(pairs), height=2.5, sharey="row", sharex="row")
    for (study, chosen), line in zip(studies.items(), axes, strict=False):
        for pair, ax in zip(pairs, line, strict=True):
            _our_curves(data, chosen, pair, ax, points, f"{study} {pair}")
        _name(line, pairs, study_name(chosen))
    for pair, ax in zip(pairs if len(curves) else (), axes[-1], strict=False):
        _published_curves(curves[curves["quantizer"].isin([pair, "float"])], pair, ax, points)
    if len(curves):
        _name(axes[-1], pairs, PUBLISHED)
    say(figure, _finding(points.frame()))
    _bits_legend(figure, sorted({*runs["activation_bits"].dropna(), *_published_bits(curves)}))
    return figure, points.frame()


def _name(line: Sequence[Axes], pairs: Sequence[str], text: str) -> None:
    """Titles of a row of panels, and its name over the first; a panel that shows no curve is taken away."""
    shown = [ax for ax in line if ax.lines]
    for pair, ax in zip(pairs, line, strict=True):
        if ax not in shown:
            ax.remove()
            continue
        ax.set_title("\n" + pair, loc="left", color=PAIR_COLOURS.get(pair, GREY), fontweight="bold")
        ax.set_xlabel("training step")
        log_y(ax)
    if shown:
        name_row(shown[0], text)
        shown[0].set_ylabel(RUNNING_MEAN)


def _finding(points: pd.DataFrame) -> str:
    """Of the first panel with both: where its curves end beside float's, the fewest bits first."""
    for panel, group in points.groupby("panel", sort=False):
        last = group.groupby("series", sort=False).tail(1).set_index("series")
        base = last[last.index.isin(["float", "FP32"])]
        others = last.drop(base.index)
        if len(base) and len(others):
            gaps = {name.split()[-1]: 100 * (y / base["y"].iloc[0] - 1) for name, y in others["y"].items()}
            ends = ", ".join(f"{percent(gap)} at {name.replace('-bit', ' bits')}" for name, gap in gaps.items())
            return f"{panel}: mean training loss over {base['x'].iloc[0]:,.0f} steps, beside float's: {ends}"
    return "Mean training loss by step: no run to compare with float's"


def studies_of(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs by model, data and variant, a panel each, for other texts or lengths do not compare; real models come first.

    The data is named only where a model learns several.
    """
    found: dict[str, pd.DataFrame] = {}
    runs = in_order(runs, ["model"], BUILT_IN_MODELS)
    several = runs.groupby("model")["dataset"].nunique() > 1
    for (model, dataset, variant), group in runs.groupby(["model", "dataset", "variant"], sort=False):
        names = [model, dataset if several[model] else "", variant]
        found[", ".join(name for name in names if name)] = group
    return found


def _our_curves(data: Data, runs: pd.DataFrame, pair: str, ax: Axes, points: Points, panel: str) -> None:
    """Mean over seeds, with a band from the lowest to the highest seed; float wide and pale underneath."""
    runs = in_order(runs[runs["quantizer"].isin(["float", pair])], ["quantizer", "activation_bits"])
    for (quantizer, bits), group in runs.groupby(["quantizer", "activation_bits"], dropna=False, sort=False):
        series = [series_of(rows_of(data.convergence, r), "train", "running_mean_loss") for _, r in group.iterrows()]
        table = pd.concat(series, axis=1).replace([np.inf, -np.inf], np.nan).dropna(how="all")
        if not len(table):
            continue
        low, mean, high = table.min(axis=1), table.mean(axis=1), table.max(axis=1)
        style = _curve_style(quantizer, bits)
        ax.plot(table.index, mean, **style)
        ax.fill_between(table.index, low, high, color=style["color"], alpha=0.12, linewidth=0)
        name, basis = _curve_name(quantizer, bits), join_basis(group["basis"])
        points.add(panel, name, table.index, mean, basis, low, high, ids_of(group))


def _curve_style(quantizer: str, bits: float) -> dict:
    if quantizer == "float":
        return FLOAT_LINE
    return {"color": PAIR_COLOURS.get(quantizer, GREY), "linestyle": BITS_STYLES.get(bits, "solid")}


def _curve_name(quantizer: str, bits: float) -> str:
    return "float" if quantizer == "float" else f"{quantizer} {bits_label(bits, np.nan)}-bit"


def _published_bits(curves: pd.DataFrame) -> list[float]:
    return list(pd.to_numeric(curves["bits"], errors="coerce").dropna())


def _published_curves(curves: pd.DataFrame, pair: str, ax: Axes, points: Points) -> None:
    curves = in_order(curves, ["quantizer"])
    for (name, quantizer, bits), group in curves.groupby(["series", "quantizer", "bits"], sort=False):
        group = group.sort_values("step")
        y = group["running_mean_train_loss"]
        ax.plot(group["step"], y, **_curve_style(quantizer, pd.to_numeric(bits, errors="coerce")))
        points.add(f"published {pair}", name, group["step"], y.to_numpy(), "published")


def _bits_legend(figure: Figure, bits: list[float]) -> None:
    lines = [Line2D([], [], **_curve_style("float", np.nan), label="float (float32)")]
    for b in bits:
        lines.append(Line2D([], [], color="#444444", linestyle=BITS_STYLES.get(b, "solid"), label=f"{b:.0f} bits"))
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=8)
