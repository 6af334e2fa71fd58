"""Figure of the convergence study: how far the final loss lies from float's by bits, with the published curves' ends beside."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from private_lora.publish.figures.losses import studies_of
from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    PAIR_COLOURS,
    PAIR_MARKERS,
    PUBLISHED,
    Points,
    legend_below,
    no_data,
    panel_each,
    percent,
    say,
    study_name,
    wrapped,
)
from private_lora.publish.tables.convergence import final_runs
from private_lora.results.labels import DEFAULT_PAIR, LABELS, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import OK

KIND = ["quantizer", "backend"]  # of a line
BITS = "activation_bits"
LINEAR = 1.0  # percent: below it the axis is linear, so that zero and less have a place
TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
# Markers are moved sideways by so many bits, so that none covers another; the published ones further.
STEP, PUBLISHED_STEP = 0.14, 0.45


def final_loss_vs_bits(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Final eval loss over that of float with the same seed, less one, in percent, by bits: a panel for every model and data.

    On the same axis the published curves at their last step: running mean of the training loss over float's.
    """
    runs = final_runs(data)
    runs = runs[(runs["stage"] == "sweep") & (runs["quantizer"] != "float")]
    runs = runs.assign(gap=100 * (runs["ratio_to_float"] - 1))
    # A run that failed has no gap, and is shown all the same.
    told = runs["gap"].notna() | (runs["status"] != OK)
    shown = studies_of(runs[told]) if told.any() else {}
    if not shown:
        return no_data()
    figure, axes = panel_each(len(shown), 3, height=3.6, sharey=True)
    points, published = Points(), published_gaps(data.published_curves)
    for (name, chosen), ax in zip(shown.items(), axes, strict=True):
        _lines(chosen, ax, points, name)
        _published(published, ax, points, name)
        _axes(ax, chosen, published)
        ax.set_title(wrapped(f"{study_name(chosen)}, {_seeds(chosen)}", len(axes)), loc="left")
    axes[0].set_ylabel("final loss, gap to float's")
    say(figure, _finding(pd.concat(shown.values()), published))
    legend_below(figure, axes, columns=4)
    return figure, points.frame()


def published_gaps(curves: pd.DataFrame) -> pd.DataFrame:
    """Per published curve its quantizer, bits and gap: running mean at the last step over float's there, less 1, in percent."""
    last = curves.sort_values("step").groupby(["series", "quantizer"], sort=False).tail(1)
    base = last.loc[last["quantizer"] == "float", "running_mean_train_loss"]
    last = last[last["quantizer"] != "float"]
    base = base.iloc[0] if len(base) else np.nan
    gap = 100 * (last["running_mean_train_loss"] / base - 1)
    found = last.assign(bits=pd.to_numeric(last["bits"], errors="coerce"), gap=gap)
    return found.dropna(subset=["gap"])[["series", "quantizer", "bits", "gap"]]


def _seeds(runs: pd.DataFrame) -> str:
    count = runs["seed"].nunique()
    return "one seed" if count == 1 else f"{count} seeds"


def _lines(runs: pd.DataFrame, ax: Axes, points: Points, panel: str) -> None:
    ax.axhline(0, color=PAIR_COLOURS["float"], linewidth=0.8, label="float")
    kinds = in_order(runs, KIND).drop_duplicates(KIND)[KIND]
    for i, (_, kind) in enumerate(kinds.iterrows()):
        _line(runs[(runs[KIND] == kind).all(axis=1)], kind, (i - (len(kinds) - 1) / 2) * STEP, ax, points, panel)


def _line(runs: pd.DataFrame, kind: pd.Series, shift: float, ax: Axes, points: Points, panel: str) -> None:
    """The line of a pair under a backend, with whiskers from the lowest to the highest seed. A failed run is a cross.

    Of `integer` the pair's name and colour stand alone; another backend adds its name and takes its colour.
    """
    pair, backend = kind[KIND]
    name = pair if backend == "integer" else f"{pair}, {LABELS.get(backend, backend)}"
    colour = PAIR_COLOURS.get(pair, GREY) if backend == "integer" else BACKEND_COLOURS.get(backend, GREY)
    gaps = runs[np.isfinite(runs["gap"])].groupby(BITS)["gap"]
    low, mean, high = (gaps.agg(how).to_numpy() for how in ("min", "mean", "max"))
    bits = np.array(list(gaps.groups))
    style = {"color": colour, "marker": PAIR_MARKERS.get(pair, "v"), "markersize": 5}
    ax.errorbar(bits + shift, mean, yerr=[mean - low, high - mean], capsize=3, label=name, **style)
    points.add(panel, name, bits, mean, join_basis(runs["basis"]), low, high, ids_of(runs))
    bad = runs[~np.isfinite(runs["final_loss"]) | (runs["status"] != OK)]
    for failed_bits, group in bad.groupby(BITS):
        # At the top edge, whatever the scale: a run without a loss has no height.
        cross = {"color": colour, "marker": "x", "markersize": 8, "linestyle": "none", "clip_on": False}
        label = "failed or diverged (any colour)"
        ax.plot([failed_bits + shift], [0.97], transform=ax.get_xaxis_transform(), label=label, **cross)
        series = f"{name}: {', '.join(sorted(set(group['status'])))}"
        points.add(panel, series, failed_bits, np.nan, join_basis(group["basis"]), run_ids=ids_of(group))


def _published(gaps: pd.DataFrame, ax: Axes, points: Points, panel: str) -> None:
    """Open markers, larger than ours, a little to the right of their bits."""
    for pair, group in gaps.groupby("quantizer", sort=False):
        style = {"marker": PAIR_MARKERS.get(pair, "v"), "markeredgecolor": PAIR_COLOURS.get(pair, GREY), "markersize": 9}
        label = f"{pair}, published"
        ax.plot(group["bits"] + PUBLISHED_STEP, group["gap"], linestyle="none", fillstyle="none", label=label, **style)
        points.add(panel, label, group["bits"], group["gap"].to_numpy(), "published")


def _axes(ax: Axes, runs: pd.DataFrame, published: pd.DataFrame) -> None:
    ax.set_xlabel("bits of activations and weights")
    ax.set_xticks(sorted({*runs[BITS], *published["bits"]}))
    ax.set_yscale("symlog", linthresh=LINEAR)
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low <= tick <= high]))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+,g} %" if v else "0 %"))


def _finding(runs: pd.DataFrame, published: pd.DataFrame) -> str:
    """At the fewest bits at which the default pair is within a percent of float: the gaps of all pairs, and those published."""
    known = runs[runs["gap"].notna()]
    if not len(known):
        return "No quantized run ended with a loss to compare with float's"
    of_integer = known[known["backend"] == "integer"]
    runs = (of_integer if len(of_integer) else known).pipe(lambda found: found[found["model"] == found["model"].iloc[0]])
    gaps = runs.groupby(["quantizer", BITS])["gap"].mean()
    pairs = gaps.index.get_level_values(0)
    pair = DEFAULT_PAIR if DEFAULT_PAIR in pairs else pairs[0]
    ours = gaps[pair]
    near = ours[ours.abs() <= LINEAR]
    bits = near.index.min() if len(near) else ours.abs().idxmin()
    there = gaps[gaps.index.get_level_values(1) == bits].droplevel(1)
    told = published[published["bits"] == bits].set_index("quantizer")["gap"]
    text = f"{runs['model'].iloc[0]} at {bits:.0f} bits, final loss beside float's ({_seeds(runs)}): {_gaps(there)}"
    return text + (f"; {PUBLISHED}: {_gaps(told)}" if len(told) else "")


def _gaps(gaps: pd.Series) -> str:
    """Such as `+0.1 % (DTok-SC)`, in the study's order."""
    ordered = in_order(gaps.rename_axis("quantizer").reset_index(name="gap"), ["quantizer"])
    return ", ".join(f"{percent(gap)} ({pair})" for pair, gap in ordered.to_numpy())
