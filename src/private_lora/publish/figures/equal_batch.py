"""Figure of time and bytes at one batch: what each product of a block takes, all of a panel on one machine."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from private_lora.costs.model import JOINT
from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    GREY,
    PLAINTEXT_COLOURS,
    Points,
    digits,
    is_encrypted,
    no_data,
    panels,
    ratio,
    say,
)
from private_lora.publish.tables.block import GLWE, block_bytes, block_summary
from private_lora.results.labels import CALLS, LABELS, ids_of, join_basis
from private_lora.results.reader import Data

COLOURS = BACKEND_COLOURS | PLAINTEXT_COLOURS
# At every encrypted product stand its ratios over these, where they were measured.
BESIDE = {"float32": "float32", "float32_onednn": "oneDNN\nfloat32", "int8": "int8", "bf16": "bf16"}
PROCESS = ["run_id", "machine", "device"]
NOT_MEASURED = "////"  # hatch
# Where a bar lies in its row, its thickness and opacity.
SIDES = (("server", -0.2, 0.4, 1), ("client", 0.2, 0.4, 0.45))
WAYS = (("up", *SIDES[0][1:]), ("down", *SIDES[1][1:]))
ALONE = (("server", 0, 0.8, 1),)
LETTER = 0.028  # of the width of a panel


def equal_batch(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Time of a block's products, forward and backward, and ciphertext bytes per token, at the same number of tokens.

    A row for each machine: its run with the most products, all of one process, and `glwe`, of which rows were measured, not
    batches: its row times the tokens.
    """
    runs = _runs(block_summary(data))
    if not runs:
        return no_data()
    bars = [len(run) for run in runs]
    widths, height = [2.2, 2, 1.5], 1.1 + 0.34 * sum(bars) / len(bars)
    figure, axes = panels(len(runs), 3, height=height, width_ratios=widths, height_ratios=bars)
    points, sizes = Points(), block_bytes(data)
    for run, (left, middle, right) in zip(runs, axes, strict=True):
        _times(run, left, points)
        _ratios(run, middle, points)
        _sizes(_sizes_of(sizes, run), right, points, run)
    say(figure, _finding(runs[0]))
    _legend(figure, runs)
    return figure, points.frame()


def _runs(summary: pd.DataFrame) -> list[pd.DataFrame]:
    """Of the model and batch that most runs measured, the fullest run of every machine, and behind its lines those of glwe."""
    whole = summary[summary["whole"].astype(bool)]
    batches = whole[whole["backend"] != GLWE]
    encrypted = batches[[is_encrypted(name) for name in batches["backend"]]]
    if not len(encrypted):
        return []
    counts = encrypted.groupby(["model", "tokens"]).size()
    model, tokens = max(counts.index, key=lambda key: (counts[key], key[1]))
    here = batches[(batches["model"] == model) & (batches["tokens"] == tokens)]
    # A run's id is the same on every machine.
    runs = [_with_glwe(run, whole) for _, run in here.groupby(PROCESS, sort=False) if any(map(is_encrypted, run["backend"]))]
    fullest: dict[tuple, pd.DataFrame] = {}
    for run in sorted(runs, key=lambda run: (len(run), run["inputs"].iloc[0] == JOINT)):
        fullest[run["machine"].iloc[0], run["device"].iloc[0]] = run
    return sorted(fullest.values(), key=len, reverse=True)


def _with_glwe(run: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """The lines of a run, and that of glwe on its machine with the same calls, if it was measured."""
    same = ["model", "machine", "device", "inputs"]
    glwe = whole[(whole["backend"] == GLWE) & (whole[same] == run.iloc[0][same]).all(axis=1)]
    return pd.concat([run, glwe.head(1)], ignore_index=True)


def _tokens(run: pd.DataFrame) -> float:
    return run.loc[run["backend"] != GLWE, "tokens"].iloc[0]


def _label(line) -> str:
    return f"{LABELS[line['backend']]} {line['options']}".strip()


def _style(backend: str) -> dict:
    style = {"color": COLOURS.get(backend, GREY), "edgecolor": "white", "linewidth": 0.4}
    return style | ({"hatch": NOT_MEASURED} if backend == GLWE else {})


def _times(run: pd.DataFrame, ax: Axes, points: Points) -> None:
    """Seconds of the server's product, and under them, pale, those of the client's encryption plus decryption."""
    tokens, first, drawn = _tokens(run), run.iloc[0], []
    panel = f"{first['model']}, {first['machine']}, {first['inputs']}: time"
    for place, (_, line) in enumerate(run.iterrows()):
        basis = _basis(line)
        for side, middle, thick, alpha in SIDES if is_encrypted(line["backend"]) else ALONE:
            seconds = 1e-3 * line[f"{side}_ms_per_token"] * tokens
            text = f" {digits(seconds, 3)} s"
            ax.barh(place + middle, seconds, thick, alpha=alpha, **_style(line["backend"]))
            ax.text(seconds, place + middle, text, va="center", fontsize=8)
            points.add(panel, f"{_label(line)}, {side}", tokens, seconds, basis, run_ids=ids_of(line))
            drawn.append((seconds, len(text)))
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(*_limits(drawn))
    ax.set_yticks(range(len(run)), [_label(line) for _, line in run.iterrows()])
    ax.set_ylim(len(run) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"time of {tokens:,.0f} tokens, one block (s)")
    bases = join_basis(_basis(line) for _, line in run.iterrows())
    ax.set_title(f"{first['model']}, {CALLS[first['inputs']]}\n{first['machine']} ({bases})", loc="left")


def _limits(drawn: list[tuple[float, int]]) -> tuple[float, float]:
    """Ends of a logarithmic axis on which texts of so many letters fit behind bars of these lengths."""
    low = min(seconds for seconds, _ in drawn) / 2
    return low, low * max((seconds / low) ** (1 / (1 - min(0.9, LETTER * letters))) for seconds, letters in drawn)


def _basis(line) -> str:
    return "extrapolated" if line["backend"] == GLWE else line["basis"]


def _ratios(run: pd.DataFrame, ax: Axes, points: Points) -> None:
    """Over the plaintext products of the same process, written beside the bars; glwe was not measured in it."""
    first, tokens = run.iloc[0], _tokens(run)
    panel = f"{first['model']}, {first['machine']}, {first['inputs']}: ratio"
    columns = {name: label for name, label in BESIDE.items() if run[f"server_over_{name}_median"].notna().any()}
    for place, (_, line) in enumerate(run.iterrows()):
        if not is_encrypted(line["backend"]):
            continue
        if line["backend"] == GLWE:
            ax.text(-0.4, place, "extrapolated: one row x tokens", va="center", fontsize=8)
            continue
        for side, middle, *_ in SIDES:
            for column, name in enumerate(columns):
                over = line[f"{side}_over_{name}_median"]
                ax.text(column, place + middle, f"{ratio(over)}", va="center", ha="center", fontsize=8)
                series = f"{_label(line)}, {side} over {name}"
                points.add(panel, series, tokens, over, line["basis"], run_ids=ids_of(line))
    # In the rows of the plaintext products, which have no ratio.
    top = sum(not is_encrypted(name) for name in run["backend"])
    for column, label in enumerate(columns.values()):
        ax.text(column, top - 0.6, label, va="bottom", ha="center", fontsize=8, fontweight="bold")
    ax.text(-0.4, 0, "ratio over plaintext,\nsame process:", va="center", fontsize=8)
    ax.set_xlim(-0.5, max(len(columns), 3) - 0.5)
    ax.set_ylim(len(run) - 0.4, -0.6)
    ax.set_axis_off()


def _sizes_of(sizes: pd.DataFrame, run: pd.DataFrame) -> list[pd.Series | None]:
    """For each line of a run that of its bytes; None where nothing is sent."""
    same = ["model", "backend", "options", "inputs", "tokens"]
    found = [sizes[(sizes[same] == line[same]).all(axis=1)] for _, line in run.iterrows()]
    return [lines.iloc[0] if len(lines) else None for lines in found]


def _sizes(lines: list[pd.Series | None], ax: Axes, points: Points, run: pd.DataFrame) -> None:
    """Megabytes per token of the whole model, up and, pale, down."""
    first, tokens, ends = run.iloc[0], _tokens(run), [0.0]
    panel = f"{first['model']}, {first['machine']}, {first['inputs']}: bytes"
    for place, line in enumerate(lines):
        if line is None:
            ax.text(0, place, " no ciphertext", va="center", fontsize=8, color=GREY)
            continue
        for way, middle, thick, alpha in WAYS:
            size = line[f"{way}_bytes_per_token"] / 1e6
            ax.barh(place + middle, size, thick, alpha=alpha, **_style(line["backend"]))
            ax.text(size, place + middle, f" {size:.3g} {way}", va="center", fontsize=8)
            points.add(panel, f"{_label(line)}, {way}", tokens, size, _basis(line), run_ids=ids_of(line))
            ends.append(size)
    ax.set_xlim(0, 1.45 * max(ends) or 1)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.set_yticks([])
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("MB per token, all blocks")


def _finding(run: pd.DataFrame) -> str:
    """The server's time of each encrypted product over the plaintext ones of its process."""
    first = run.iloc[0]
    products = [line for _, line in run.iterrows() if is_encrypted(line["backend"]) and line["backend"] != GLWE]
    products = [line for line in products if not line["options"]] or products
    told = [f"{_label(line)} {_over_plaintext(line)}" for line in products]
    return f"{first['model']}, {_tokens(run):,.0f} tokens on {first['machine']}: server's time of " + "; ".join(told)


def _over_plaintext(line) -> str:
    """Such as `0.69 x float32, 6.2 x int8`."""
    found = {label.replace("\n", " "): line[f"server_over_{name}_median"] for name, label in BESIDE.items()}
    return ", ".join(f"{ratio(over)} {label}" for label, over in found.items() if np.isfinite(over))


def _legend(figure: Figure, runs: list[pd.DataFrame]) -> None:
    handles = [
        Patch(color=GREY, label="server's product, or upload"),
        Patch(color=GREY, alpha=0.45, label="client's encryption and decryption, or download"),
    ]
    if any((run["backend"] == GLWE).any() for run in runs):
        handles.append(
            Patch(
                facecolor=COLOURS[GLWE],
                edgecolor="white",
                hatch=NOT_MEASURED,
                label="extrapolated from one row, in a process of its own",
            )
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if len(handles) > 2 else 2, fontsize=8)
