"""Figures of the convergence study: loss curves beside the published ones, and final loss against bits."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    BITS_STYLES,
    GREY,
    PAIR_COLOURS,
    PAIR_MARKERS,
    PUBLISHED,
    RUNNING_MEAN,
    Points,
    legend_below,
    log_y,
    name_row,
    panels,
    say_no_data,
    study_name,
)
from private_lora.publish.tables.convergence import final_runs
from private_lora.results.labels import LABELS, PAIRS, PUBLISHED_PAIRS, bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import OK, rows_of, series_of
from private_lora.specs.models import BUILT_IN_MODELS

KIND = ["quantizer", "backend"]  # of a line of `final_loss_vs_bits`


def loss_curves(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Running mean of the training loss by step: a row per model and variant of ours, one of the published curves."""
    runs = data.runs[(data.runs["stage"] == "sweep") & (data.runs["backend"].isin(["float", "integer"]))]
    curves = data.published_curves
    studies = _studies(runs)
    pairs = [p for p in PAIRS[1:] if p in PUBLISHED_PAIRS or p in set(runs["quantizer"])]
    figure, axes = panels(len(studies) + 1, len(pairs), sharey="row", sharex="row")
    points = Points()
    for (study, chosen), line in zip(studies.items(), axes, strict=False):
        name_row(line[0], study_name(chosen))
        for pair, ax in zip(pairs, line, strict=True):
            _our_curves(data, chosen, pair, ax, points, f"{study} {pair}")
    name_row(axes[-1][0], PUBLISHED)
    for pair, ax in zip(pairs, axes[-1], strict=True):
        _published_curves(curves[curves["quantizer"].isin([pair, "float"])], pair, ax, points)
    for line in axes:
        for pair, ax in zip(pairs, line, strict=True):
            ax.set_title("\n" + pair, loc="left", color=PAIR_COLOURS.get(pair, GREY), fontweight="bold")
    for ax in axes[:, 0]:
        ax.set_ylabel(RUNNING_MEAN, fontsize=8)
    for ax in axes.flat:
        ax.set_xlabel("training step")
    _bits_legend(figure, sorted({*runs["activation_bits"].dropna(), *_published_bits(curves)}))
    return figure, points.frame()


def _studies(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs by model, data and variant, a panel each, for other texts or lengths do not compare; real models come first.

    The data is named only where a model learns several.
    """
    found: dict[str, pd.DataFrame] = {}
    runs = in_order(runs, ["model"], BUILT_IN_MODELS)
    several = runs.groupby("model")["dataset"].nunique() > 1
    for (model, dataset, variant), group in runs.groupby(["model", "dataset", "variant"], sort=False):
        names = [model, dataset if several[model] else "", variant]
        found[", ".join(name for name in names if name)] = group
    return found or {"": runs}


def _our_curves(data: Data, runs: pd.DataFrame, pair: str, ax: Axes, points: Points, panel: str) -> None:
    """Mean over seeds, with a band from the lowest to the highest seed; float wide and pale underneath."""
    runs = in_order(runs[runs["quantizer"].isin(["float", pair])], ["quantizer", "activation_bits"])
    drawn = False
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
        drawn = True
    log_y(ax) if drawn else say_no_data(ax)


def _curve_style(quantizer: str, bits: float) -> dict:
    if quantizer == "float":
        return {"color": "#bbbbbb", "linewidth": 3.2, "linestyle": "solid"}
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
    log_y(ax) if len(curves) else say_no_data(ax)


def _bits_legend(figure: Figure, bits: list[float]) -> None:
    lines = [Line2D([], [], **_curve_style("float", np.nan), label="float (float32)")]
    for b in bits:
        lines.append(Line2D([], [], color="#444444", linestyle=BITS_STYLES.get(b, "solid"), label=f"{b:.0f} bits"))
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=8)


def final_loss_vs_bits(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Final eval loss against bits, by quantizer pair, with the spread over seeds; float as a flat line."""
    runs = final_runs(data)
    runs = runs[runs["stage"] == "sweep"]
    studies = _studies(runs)
    figure, axes = panels(1, len(studies), height=3.8)
    points = Points()
    for (study, chosen), ax in zip(studies.items(), axes[0], strict=True):
        _loss_panel(chosen, ax, points, study)
        # Beside others a title has no more room than its panel.
        ax.set_title(
            textwrap.fill(study_name(chosen), int(14.5 * (9 / len(studies) - 0.7)), break_on_hyphens=False), loc="left"
        )
        ax.set_xlabel("bits (activations and weights)")
        ax.set_ylabel("final eval loss (nats per token)")
    legend_below(figure, axes[0])
    return figure, points.frame()


def _loss_panel(runs: pd.DataFrame, ax: Axes, points: Points, study: str) -> None:
    finite = runs[np.isfinite(runs["final_loss"])]
    if not len(finite):
        return say_no_data(ax)
    base = finite.loc[finite["quantizer"] == "float", "final_loss"]
    if len(base):
        ax.axhline(base.mean(), color=PAIR_COLOURS["float"], linewidth=1, label="float, mean over seeds")
        ax.axhspan(base.min(), base.max(), color="#000000", alpha=0.08, linewidth=0)
        ids = ids_of(finite[finite["quantizer"] == "float"])
        points.add(study, "float", np.nan, base.mean(), join_basis(runs["basis"]), base.min(), base.max(), ids)
    quantized = runs[runs["quantizer"] != "float"]
    for i, (_, kind) in enumerate(in_order(quantized, ["quantizer", "backend"]).drop_duplicates(KIND).iterrows()):
        _loss_line(quantized[(quantized[KIND] == kind[KIND]).all(axis=1)], kind, (i - 1) * 0.12, ax, points, study)
    ax.set_xticks(sorted(set(quantized["activation_bits"])))
    log_y(ax)
    return None


def _loss_line(runs: pd.DataFrame, kind: pd.Series, shift: float, ax: Axes, points: Points, study: str) -> None:
    """The line of a pair under a backend; shifted a little so that spreads do not hide each other. A failed run is a cross.

    Of `integer` the pair's name and colour stand alone; another backend adds its name and takes its colour.
    """
    pair, backend = kind[KIND]
    name = pair if backend == "integer" else f"{pair}, {LABELS.get(backend, backend)}"
    colour = PAIR_COLOURS.get(pair, GREY) if backend == "integer" else BACKEND_COLOURS.get(backend, GREY)
    losses = runs[np.isfinite(runs["final_loss"])].groupby("activation_bits")["final_loss"]
    low, mean, high = (losses.agg(how).to_numpy() for how in ("min", "mean", "max"))
    bits = np.array(list(losses.groups))
    style = {"color": colour, "marker": PAIR_MARKERS.get(pair, "v"), "markersize": 5}
    ax.errorbar(bits + shift, mean, yerr=[mean - low, high - mean], capsize=3, label=name, **style)
    points.add(study, name, bits, mean, join_basis(runs["basis"]), low, high, ids_of(runs))
    bad = runs[~np.isfinite(runs["final_loss"]) | (runs["status"] != OK)]
    for failed_bits, group in bad.groupby("activation_bits"):
        # At the top edge, whatever the scale: a run without a loss has no height.
        cross = {
            "color": style["color"],
            "marker": "x",
            "markersize": 8,
            "linestyle": "none",
            "clip_on": False,
        }
        label = "failed or diverged (any colour)"
        ax.plot([failed_bits + shift], [0.97], transform=ax.get_xaxis_transform(), label=label, **cross)
        series = f"{name}: {', '.join(sorted(set(group['status'])))}"
        points.add(study, series, failed_bits, np.nan, join_basis(group["basis"]), run_ids=ids_of(group))
