"""Figure of the stage loopback: where the time of a run goes, for every arrangement of workers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Points,
    digits,
    is_encrypted,
    legend_below,
    no_data,
    panels,
    ratio,
    say,
)
from private_lora.publish.tables.loopback import network_lines
from private_lora.results.labels import join_basis
from private_lora.results.reader import Data

STAGES = {
    "quantize_s": ("quantize (client)", {"color": SKY}),
    "encrypt_s": ("encrypt (client)", {"color": BLUE}),
    "products_s": ("products (workers)", {"color": VERMILLION}),
    "network_s": ("network, TLS, framing", {"color": ORANGE}),
    "overlapped_s": ("wait: products and network at once", {"color": VERMILLION, "hatch": "////", "edgecolor": ORANGE}),
    "decrypt_s": ("decrypt (client)", {"color": GREEN}),
    "verify_s": ("check of answers (client)", {"color": PURPLE}),
}
PANEL = ["model", "machine", "tokens_per_step", "steps", "blocks", "model_blocks"]
# Named in a bar's label where the bars of a panel differ in them.
TOLD_APART = {"backend": "{}", "bits": "{} bits", "inputs": "{}", "seed": "seed {:.0f}"}


def loopback_step(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds of a whole run by operation, evaluations included, one bar for every arrangement; a panel per model and batch.

    Runs in process that encrypt nothing stand in the table.
    """
    lines = _operations(network_lines(data))
    lines = lines[lines["remote"].astype(bool) | lines["backend"].map(is_encrypted)]
    groups = [(key, group) for key, group in lines.groupby(PANEL, sort=False, dropna=False)]
    if not groups:
        return no_data()
    # Bars are of one thickness, however many a panel has.
    bars = [max(len(group), 1) + 0.3 for _, group in groups]
    height = 1.3 + 0.25 * sum(bars) / len(bars)
    figure, axes = panels(len(groups), 1, height=height, gridspec_kw={"height_ratios": bars})
    points = Points()
    for (key, group), ax in zip(groups, axes[:, 0], strict=True):
        _bars(group, ax, points, key)
    axes[-1][0].set_xlabel("time of the run by operation (s), evaluations included")
    say(figure, _finding(groups))
    legend_below(figure, list(axes[:, 0]), columns=4)
    return figure, points.frame()


def _finding(groups: list[tuple[tuple, pd.DataFrame]]) -> str:
    """Of the first panel: what the network's part is of the longest bar, and the time beside the shortest."""
    (model, machine, *_), lines = groups[0]
    parts = lines[list(STAGES)].astype(float).fillna(0)
    totals = parts.sum(axis=1)
    longest, shortest = totals.idxmax(), totals.idxmin()
    share = 100 * parts.loc[longest, "network_s"] / totals[longest]
    labels = dict(zip(lines.index, _labels(lines), strict=True))
    text = f"{model}, {machine}".removesuffix(", ") + f": {labels[longest]}: {digits(totals[longest], 3)} s"
    if longest != shortest:
        text += f", {ratio(totals[longest] / totals[shortest])} {labels[shortest]}"
    return text + (f"; {share:.0f} % of it is network, TLS and framing" if share else "")


def _operations(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines with products, network and overlapped waiting apart, so that the parts of a bar add up to its length."""
    overlapped = lines["rows_per_question"].notna()
    network = lines["network_tls_framing_s"].astype(float).clip(lower=0)
    seconds = {"products_s": lines["server_s"].mask(overlapped), "network_s": network}
    return lines.assign(**seconds, overlapped_s=lines["wait_s"].where(overlapped))


def _bars(lines: pd.DataFrame, ax: Axes, points: Points, key: tuple) -> None:
    panel = f"{key[0]}, {key[1]}".removesuffix(", ")
    labels = _labels(lines)
    places, left = np.arange(len(lines))[::-1], np.zeros(len(lines))
    for stage, (name, style) in STAGES.items():
        seconds = lines[stage].astype(float).fillna(0).to_numpy()
        if not seconds.any():
            continue
        ax.barh(places, seconds, left=left, label=name, height=0.7, linewidth=0, **style)
        left = left + seconds
        for label, basis, value, ids in zip(labels, lines["basis"], seconds, lines["run_ids"], strict=True):
            points.add(panel, name, label, value, basis, run_ids=ids)
    for place, end in zip(places, left, strict=True):
        ax.text(end, place, f" {end:.3g} s", va="center", fontsize=8)
    ax.set_yticks(places, labels)
    ax.set_ylim(-0.65, len(lines) - 0.35)
    ax.set_xlim(0, 1.12 * left.max() or 1)
    work = f"{key[3]:.0f} step{'s' if key[3] != 1 else ''} of {key[2]:,.0f} tokens"
    work += " and evaluations" if lines["evaluations"].any() else ""
    model, machine, blocks, of = key[0], key[1], *key[4:]
    part = f", {blocks:.0f} of {of:.0f} blocks" if blocks < of else ""
    head = [f"{model}{part}", machine, f"{work} ({join_basis(lines['basis'])})"]
    ax.set_title("\n".join(text for text in head if text), loc="left")
    ax.grid(axis="y", visible=False)


def _labels(lines: pd.DataFrame) -> list[str]:
    """Arrangements, with what else tells the bars of this panel apart."""
    telling = {name: text for name, text in TOLD_APART.items() if lines[name].nunique(dropna=False) > 1}
    named = [
        [line["arrangement"], *(text.format(line[name]) for name, text in telling.items())] for _, line in lines.iterrows()
    ]
    return [", ".join(part for part in parts if part) for parts in named]
