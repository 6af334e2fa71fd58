"""Figure of what a real LLM learned: questions answered by training step, and the training loss of the same runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    FLOAT_LINE,
    GREY,
    Points,
    legend_below,
    log_y,
    no_data,
    panels,
    say,
    source_name,
    study_name,
    wrapped,
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
    "float": FLOAT_LINE,
    "integer": {"linewidth": 1.2},
    "packed": {"linestyle": "none", "marker": "o", "markersize": 7, "fillstyle": "none"},
}
THROUGH_WORKERS = {"linestyle": "none", "marker": "x", "markersize": 5}
PALE = 0.35
# Of the training loss: so many means of last steps fit into a run, and so many marks.
WINDOWS, MARKS = 20, 24


def knowledge(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Exact match above the training loss of the same steps, a column for every data set of the stage."""
    studies, points = _studies(knowledge_runs(data)), Points()
    if not studies:
        return no_data()
    figure, axes = panels(2, len(studies), height=2.7, sharex="col")
    for runs, (upper, lower) in zip(studies, axes.T, strict=True):
        asked = runs["questions"].notna().any()
        if asked:
            _exact_match(runs, upper, points)
        else:
            upper.remove()
        _loss(runs, lower, points)
        (upper if asked else lower).set_title(wrapped(_named(runs), len(studies)), loc="left")
        lower.set_xlabel("training step")
    say(figure, _finding(studies[0]))
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
        label += ", every product encrypted" if 0 < run["encrypted_matmuls"] == run["remote_matmuls"] else ""
        if run["remote"]:
            label, style = f"{label}, through workers ({run['arrangement']})", style | THROUGH_WORKERS
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
            bars = {"ecolor": style["color"], "alpha": style.get("alpha"), "elinewidth": 1.2, "capsize": 3}
            ax.errorbar(shares.index + shift, shares, yerr=off, fmt="none", **bars)
    guessing = 100 * mean_of_finite(runs["exact_match_by_guessing"])
    if np.isfinite(guessing):
        ax.axhline(guessing, color=GREY, linestyle="dotted", linewidth=1.2, label="guessing")
        points.add(panel, "guessing", np.nan, guessing, runs["basis"].iloc[0], run_ids=ids_of(runs))
    ax.set_ylim(-2, 102)
    ax.set_ylabel("exact match on\nunseen questions (%)")


def _loss(runs: pd.DataFrame, ax: Axes, points: Points) -> None:
    panel, window = f"training loss, {source_name(runs)}", max(1, int(runs["steps"].max()) // WINDOWS)
    for run, label, style in _drawn(runs):
        losses = run["losses"].rolling(window).mean().dropna()
        every = {"markevery": max(1, len(losses) // MARKS)} if "marker" in style else {}
        ax.plot(losses.index, losses, label=label, **style, **every)
        points.add(panel, label, losses.index, losses.to_numpy(), run["basis"], run_ids=run["run_id"])
    log_y(ax)
    smoothed = f",\nmean of last {window} steps" if window > 1 else ""
    ax.set_ylabel(f"training loss (nats){smoothed}")


def _named(runs: pd.DataFrame) -> str:
    machines = ", ".join(dict.fromkeys(name for name in runs["machine"] if name))
    return " | ".join(part for part in (study_name(runs), machines) if part)


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
            f"{how}, {100 * before:.3g} % before" + _beside(here, run)
        )
    before, after = (evaluated(run, "loss", last) for last in (False, True))
    return f"{run['model']}: loss {before:.3g} before and {after:.3g} after {run['steps']:.0f} {how}"


def _beside(runs: pd.DataFrame, run: pd.Series) -> str:
    """What float answers after the same steps."""
    found = runs[(runs["backend"] == "float") & (runs["seed"] == run["seed"])] if run["backend"] != "float" else runs[:0]
    share = 100 * evaluated(found.iloc[0], "exact_match", True) if len(found) else np.nan
    return f"; float {share:.3g} %" if np.isfinite(share) else ""
