"""Figure of what a real LLM learned: questions answered by training step, and the training loss of the same runs."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    VERMILLION,
    Points,
    legend_below,
    log_y,
    panels,
    say_no_data,
    source_name,
)
from private_lora.publish.tables.convergence import mean_of_finite
from private_lora.publish.tables.intervals import wilson
from private_lora.publish.tables.knowledge_runs import IN_PROCESS, evaluated, knowledge_runs
from private_lora.results.labels import ids_of, in_order
from private_lora.results.reader import Data

STUDY = ["model", "dataset", "study", "steps"]
WIDTHS = ["quantizer", "activation_bits", "weight_bits"]
# Encrypted runs are marks over the line that they are equal to.
STYLES = {
    "float": {"linewidth": 3.2, "color": "#bbbbbb"},
    "integer": {"linewidth": 1.2},
    "packed": {"linestyle": "none", "marker": "o", "markersize": 7, "fillstyle": "none"},
}
THROUGH_WORKERS = {"linestyle": "none", "marker": "x", "markersize": 5, "color": VERMILLION}
PALE = 0.35
# Of the training loss: so many means of last steps fit into a run, and so many marks.
WINDOWS, MARKS = 20, 24


def knowledge(data: Data) -> tuple[Figure, pd.DataFrame]:
    """A panel of exact match and one of the training loss for every data set of the stage; those without data are left out."""
    studies, points = _studies(knowledge_runs(data)), Points()
    kinds = [
        (kind, runs) for runs in studies for kind in (_exact_match, _loss) if kind is _loss or runs["questions"].notna().any()
    ]
    figure, axes = panels(max(1, -(-len(kinds) // 2)), 2, height=3.6)
    for (draw, runs), ax in zip(kinds, axes.flat, strict=False):
        draw(runs, ax, points)
        ax.set_xlabel("training step")
    for ax in list(axes.flat)[max(1, len(kinds)) :]:
        ax.remove()
    if not kinds:
        say_no_data(axes.flat[0])
        return figure, points.frame()
    figure.suptitle("\n".join(textwrap.wrap(_finding(studies[0]), 90)), x=0.01, ha="left", fontsize=11, fontweight="bold")
    legend_below(figure, figure.axes, columns=4)
    return figure, points.frame()


def _studies(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """Runs of each data set that were asked the most and trained longest, at the widths encrypted; the most asked first."""
    found = []
    for _, group in runs.groupby(["model", "dataset"], sort=False) if len(runs) else ():
        asked = group[group["questions"].fillna(0) == group["questions"].fillna(0).max()]
        # One is encrypted before one is long.
        encrypted = asked[asked["backend"] == "packed"]
        longest = (encrypted if len(encrypted) else asked).sort_values("steps").iloc[-1]
        beside = group[(group[STUDY] == longest[STUDY]).all(axis=1) & group["backend"].isin(list(STYLES))]
        as_wide = (beside[WIDTHS] == longest[WIDTHS]).all(axis=1) | (longest["backend"] == "float")
        found.append(beside[as_wide | (beside["backend"] == "float")])
    return sorted((group for group in found if len(group)), key=lambda group: -group["questions"].fillna(0).max())


def _strong_seed(runs: pd.DataFrame) -> float:
    """The seed that was encrypted, else the first: there the curves coincide."""
    encrypted = runs[runs["backend"] == "packed"]
    return (encrypted if len(encrypted) else runs)["seed"].min()


def _drawn(runs: pd.DataFrame):
    """Each run with its label and style: of the strong seed, then the others, which lie behind them."""
    other, remote = runs["seed"] != _strong_seed(runs), runs["arrangement"] != IN_PROCESS
    ranked = in_order(runs.assign(other=other, remote=remote), ["other", "backend", "remote"])
    for _, run in ranked.iterrows():
        bits = f", {run['bits']} bits" if run["bits"] else ""
        label, style = run["backend"] + bits, {"color": BACKEND_COLOURS[run["backend"]]} | STYLES[run["backend"]]
        if run["remote"]:
            label, style = f"{label}, through workers ({run['arrangement']})", THROUGH_WORKERS
        if run["other"]:
            label, style = f"{label}, other seeds", style | {"alpha": PALE, "linewidth": 1, "zorder": 1.5}
        yield run, label, style


def _exact_match(runs: pd.DataFrame, ax: Axes, points: Points) -> None:
    panel = f"exact match, {source_name(runs)}"
    for run, label, style in _drawn(runs):
        asked = run["evaluations"][["exact_match", "exact_match_questions"]].dropna()
        shares = 100 * asked["exact_match"]
        counts = zip(asked["exact_match"], asked["exact_match_questions"], strict=True)
        ends = 100 * np.array([wilson(share * count, count) for share, count in counts]).reshape(-1, 2)
        ax.plot(shares.index, shares, label=label, clip_on=False, **style)
        points.add(panel, label, shares.index, shares.to_numpy(), run["basis"], ends[:, 0], ends[:, 1], run["run_id"])
        if run["seed"] == _strong_seed(runs) and run["backend"] in ("float", "integer"):
            # Of float a little to the left, so that both can be seen.
            shift = -0.012 * run["steps"] if run["backend"] == "float" else 0
            off = np.abs(ends.T - shares.to_numpy())
            ax.errorbar(shares.index + shift, shares, yerr=off, fmt="none", ecolor=style["color"], elinewidth=1.2, capsize=3)
    guessing = 100 * mean_of_finite(runs["exact_match_by_guessing"])
    if np.isfinite(guessing):
        ax.axhline(guessing, color=GREY, linestyle="dotted", linewidth=1.2, label="guessing")
        points.add(panel, "guessing", np.nan, guessing, runs["basis"].iloc[0], run_ids=ids_of(runs))
    ax.set_ylim(-2, 102)
    ax.set_ylabel("exact match on unseen questions (%)")
    ax.set_title(_named(runs), loc="left")


def _loss(runs: pd.DataFrame, ax: Axes, points: Points) -> None:
    panel, window = f"training loss, {source_name(runs)}", max(1, int(runs["steps"].max()) // WINDOWS)
    for run, label, style in _drawn(runs):
        losses = run["losses"].rolling(window).mean().dropna()
        every = {"markevery": max(1, len(losses) // MARKS)} if "marker" in style else {}
        ax.plot(losses.index, losses, label=label, **style, **every)
        points.add(panel, label, losses.index, losses.to_numpy(), run["basis"], run_ids=run["run_id"])
    log_y(ax)
    smoothed = f", mean of last {window} steps" if window > 1 else ""
    ax.set_ylabel(f"training loss{smoothed}\n(nats per labelled token)")
    ax.set_title(_named(runs), loc="left")


def _named(runs: pd.DataFrame) -> str:
    return f"{runs['model'].iloc[0]}, {source_name(runs)}"


def _finding(runs: pd.DataFrame) -> str:
    """What the first study shows, in a sentence, of the run that was encrypted if there is one."""
    here = runs[runs["arrangement"] == IN_PROCESS]
    here = here if len(here) else runs
    for backend in ("packed", "integer", "float"):
        found = here[here["backend"] == backend]
        if len(found):
            run = found.sort_values("seed").iloc[0]
            break
    how = "encrypted steps" if run["encrypted_matmuls"] > 0 else f"steps ({run['backend']})"
    before, after = (evaluated(run, "exact_match", last) for last in (False, True))
    if np.isfinite(after):
        return (
            f"{run['model']}: {100 * after:.3g} % of {run['questions']:.0f} unseen questions answered after {run['steps']:.0f} "
            f"{how}, {100 * before:.3g} % before"
        )
    before, after = (evaluated(run, "loss", last) for last in (False, True))
    return f"{run['model']}: loss {before:.3g} before and {after:.3g} after {run['steps']:.0f} {how}"
