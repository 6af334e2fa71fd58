"""Figure of what a worker receives of a text: in the clear, encrypted, and what the same attack reads back from either."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.publish.figures.style import GREEN, VERMILLION, Points, no_data, panels, say
from private_lora.publish.tables.worker_view import worker_view as summary
from private_lora.results.reader import Data

# How each panel begins its title.
WORKERS = {"integer": "sent in the clear", "packed": "encrypted by packed"}
COLOURS = "PuOr"
SPACE, LINE, LONGEST = "␣", "⏎", 14


def worker_view(data: Data) -> tuple[Figure, pd.DataFrame]:
    """A panel for each of WORKERS that has a run, of the model with the largest vocabulary; rows are tokens."""
    runs, points = _shown(summary(data)), Points()
    if not len(runs):
        return no_data()
    figure, axes = panels(1, len(runs), height=5.2)
    for (_, run), ax in zip(runs.iterrows(), axes.flat, strict=True):
        rows = data.worker_view[data.worker_view["run_id"] == run["run_ids"]]
        _numbers(run, rows, ax, points)
        _words(rows, ax)
    say(figure, _finding(runs))
    return figure, points.frame()


def _shown(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of one model and text, one of each of WORKERS."""
    lines = lines[lines["backend"].isin(WORKERS)].sort_values("vocabulary", ascending=False, kind="stable")
    one = lines[(lines[["model", "dataset", "bits"]] == lines[["model", "dataset", "bits"]].iloc[:1].squeeze()).all(axis=1)]
    return (
        one.drop_duplicates("backend")
        .set_index("backend", drop=False)
        .reindex([b for b in WORKERS if b in set(one["backend"])])
    )


def _numbers(run: pd.Series, rows: pd.DataFrame, ax: Axes, points: Points) -> None:
    """The numbers received for the first question, on a scale of all that their bits can hold."""
    values = rows[rows["metric"] == "received_value"].pivot(index="step", columns="sample", values="value")
    half = 2.0 ** (run["received_bits"] - 1)
    image = ax.imshow(values, cmap=COLOURS, vmin=-half, vmax=half, aspect="auto", interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, orientation="horizontal", fraction=0.04, pad=0.02, ticks=[-half, 0, half])
    power = f"2^{{{run['received_bits'] - 1:.0f}}}"
    bar.ax.set_xticklabels([f"$-{power}$", "0", f"${power}$"], fontsize=7)
    bar.set_label("number received")
    ax.grid(False)
    ax.set_xticks([])
    said = f"{WORKERS[run['backend']]}: numbers of {run['received_bits']:.0f} bits\n{_share(run)}"
    ax.set_title(f"{said} of {run['read_tokens']:.0f} tokens read back", loc="left")
    for step, line in values.iterrows():
        points.add(
            WORKERS[run["backend"]], f"token {step:.0f}", line.index, line.to_numpy(), run["basis"], run_ids=run["run_ids"]
        )


def _words(rows: pd.DataFrame, ax: Axes) -> None:
    """What was read back, beside each row: green where it is the token."""
    texts = {m: rows[rows["metric"] == m].sort_values("step") for m in ("token", "recovered_token")}
    right = texts["token"]["value"].to_numpy() == texts["recovered_token"]["value"].to_numpy()
    ax.set_yticks(range(len(right)), [_label(text) for text in texts["recovered_token"]["note"]], fontsize=7)
    for label, is_right in zip(ax.get_yticklabels(), right, strict=True):
        label.set_color(GREEN if is_right else VERMILLION)
    read = f"read back: {_visible(''.join(texts['recovered_token']['note']).strip())}"
    ax.set_xlabel("\n".join(textwrap.wrap(read, 64)), fontsize=8, loc="left")


def _visible(text: str) -> str:
    """Text of tokens in which line ends are seen, nothing is a formula, and no character controls anything."""
    text = text.replace("\n", LINE).replace("$", r"\$")
    return "".join(c if c.isprintable() else "·" for c in text)


def _label(text: str) -> str:
    """A token beside its row, its spaces seen, cut where it is long."""
    text = _visible(text.replace(" ", SPACE))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _share(run: pd.Series) -> str:
    return f"{run['recovered_percent']:.3g} % ({run['recovered_percent_low']:.3g} to {run['recovered_percent_high']:.3g})"


def _finding(runs: pd.DataFrame) -> str:
    told = [f"{run['recovered_percent']:.3g} % of the tokens {WORKERS[name]}" for name, run in runs.iterrows()]
    return (
        f"{runs['model'].iloc[0]}: a worker reads back {' and '.join(told)}; by chance it would "
        f"{runs['chance_percent'].iloc[0]:.2g} %"
    )
