"""Figures of what a step costs: seconds by batch, by operation, and bytes per token."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from private_lora.costs.inputs import PER_ROW, PLAIN
from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    SKY,
    VERMILLION,
    Points,
    digits,
    is_encrypted,
    legend_below,
    log_y,
    no_data,
    panel_each,
    panels,
    ratio,
    say,
    wrapped,
)
from private_lora.publish.tables.full_step import full_steps
from private_lora.publish.tables.step_cost import SETTING, predictions, shown_model, step_tokens
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data

COLOURS = BACKEND_COLOURS | {PLAIN: BLACK}
# Of a step's time, with the names of the steps in the clear.
OVER = {
    "step_time_over_float32": "float32",
    "step_time_over_float32_onednn": "oneDNN float32",
    "step_time_over_integer": "integer",
    "step_time_over_bf16": "bf16",
}
OPTION_MARKERS = ("o", "s", "^", "D", "v", "P")
STAGES = {
    "rest_s": ("everything else (client)", GREY),
    "quantize_s": ("quantize (client)", SKY),
    "encrypt_s": ("encrypt (client)", BLUE),
    "decrypt_s": ("decrypt (client)", GREEN),
    "server_s": ("server", VERMILLION),
}


def shown_lines(data: Data) -> pd.DataFrame:
    """Predictions of the model shown, with one worker over the first network, one line per scheme, machine and batch."""
    lines = predictions(data, [name for name in SETTING if name != "tokens"])
    lines = lines[(lines["model"] == shown_model(data.costs)) & (lines["workers"].isna() | (lines["workers"] == 1))]
    key = ["backend", "options", "device", "machine", "bits", "inputs", "tokens"]
    return lines.sort_values("latency_s", kind="stable").drop_duplicates(key).sort_values("tokens", kind="stable")


def schemes(lines: pd.DataFrame) -> list[tuple[str, dict, pd.DataFrame]]:
    """Label, style and lines of each scheme on one machine; dashed where a product was extrapolated."""
    found = []
    for i, (key, group) in enumerate(lines.groupby(["backend", "options", "device", "bits", "inputs"], sort=False)):
        backend, options, device, bits, inputs = key
        guessed = "extrapolated" in set(group["products_basis"])
        parts = [backend.replace("_float32", " float32"), options, f"{bits} bits" if bits and backend not in PER_ROW else ""]
        parts += [inputs if backend != PLAIN else "at the client", "" if device == "cpu" else device]
        style = {"color": COLOURS.get(backend, GREY), "linestyle": "dashed" if guessed else "solid"}
        style["marker"] = OPTION_MARKERS[i % len(OPTION_MARKERS)]
        found.append((", ".join(part for part in [*parts, "extrapolated" if guessed else ""] if part), style, group))
    return found


def _named(text: str, machine: str) -> str:
    """A panel's title, with the machine on a line of its own where it is known."""
    return f"{machine}\n{text}" if machine else text


def _by_tokens(ax: Axes, tokens: pd.Series) -> None:
    """Logarithmic axes, with a tick at every batch."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(set(tokens)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    log_y(ax)


def step_latency(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Predicted seconds of a step of the model shown by tokens per batch, client and one worker, without a network."""
    lines, steps = shown_lines(data), full_steps(data)
    model = shown_model(data.costs)
    steps = steps[(steps["architecture"] == model) & (steps["blocks"] == steps["model_blocks"])]
    machines = list(dict.fromkeys(lines["machine"]))
    if not machines:
        return no_data()
    figure, axes = panel_each(len(machines), 1, height=4.4)
    points = Points()
    for machine, ax in zip(machines, axes, strict=True):
        _step_panel(lines[lines["machine"] == machine], steps[steps["machine"] == machine], ax, points, machine)
        ax.set_title(_named(f"{model}: one training step, client and one worker, without a network", machine), loc="left")
        ax.set_ylabel("time of a step (s)")
    axes[-1].set_xlabel("tokens per batch")
    first = (frame[frame["machine"] == machines[0]] for frame in (lines, steps))
    say(figure, _predicted_finding(*first, step_tokens(data.costs)))
    legend_below(figure, axes, columns=3)
    return figure, points.frame()


def _step_panel(lines: pd.DataFrame, steps: pd.DataFrame, ax: Axes, points: Points, machine: str) -> None:
    """Predictions as lines, and the whole steps that were measured as stars."""
    for label, style, group in schemes(lines):
        seconds = group["client_time_s"] + group["server_time_s"]
        ax.plot(group["tokens"], seconds, label=label, markersize=4, **style)
        points.add(machine, label, group["tokens"], seconds.to_numpy(), "extrapolated", run_ids=ids_of(group))
    for (backend, variant), group in steps.groupby(["backend", "variant"], sort=False):
        label = f"{backend} {variant}".strip() + ", full step measured"
        style = {"color": "none", "markeredgecolor": COLOURS.get(backend, GREY), "markersize": 12, "markeredgewidth": 1.4}
        ax.plot(group["tokens"], group["step_time_s_median"], "*", label=label, zorder=5, **style)
        median = group["step_time_s_median"].to_numpy()
        points.add(machine, label, group["tokens"], median, "measured", run_ids=ids_of(group["run_id"]))
    _by_tokens(ax, pd.concat([lines["tokens"], steps["tokens"]]))


def _predicted_finding(lines: pd.DataFrame, steps: pd.DataFrame, tokens: float) -> str:
    """Predicted seconds of a batch by scheme, and those of whole steps that were measured at it."""
    first = lines[lines["tokens"] == tokens]
    first = first if len(first) else lines[lines["tokens"] == lines["tokens"].max()]
    tokens = first["tokens"].iloc[0]
    predicted = (first["client_time_s"] + first["server_time_s"]).groupby(first["backend"], sort=False).min()
    text = f"{first['model'].iloc[0]}, {tokens:,.0f} tokens, without a network: predicted {_told(predicted)}"
    whole = steps[steps["tokens"] == tokens]
    measured = whole.groupby("backend", sort=False)["step_time_s_median"].min()
    return text + (f"; measured {_told(measured)}" if len(measured) else "")


def _told(seconds: pd.Series) -> str:
    """Such as `packed 196 s, integer 57 s`, the longest first."""
    ordered = seconds.dropna().sort_values(ascending=False)
    return ", ".join(f"{name.replace('_float32', ' float32')} {digits(value, 3)} s" for name, value in ordered.items())


def full_step_operations(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds of a measured full step by operation, mean over steps, one bar for each run of whole models."""
    steps = full_steps(data)
    steps = steps[steps["blocks"] == steps["model_blocks"]]
    names = list(dict.fromkeys(zip(steps["architecture"], steps["machine"], strict=True)))
    if not names:
        return no_data()
    groups = [steps[(steps["architecture"] == model) & (steps["machine"] == machine)] for model, machine in names]
    bars = [len(group) + 0.3 for group in groups]
    height = 0.9 + 0.25 * sum(bars) / len(bars)
    figure, axes = panels(len(names), 1, height=height, height_ratios=bars)
    points = Points()
    for name, group, ax in zip(names, groups, axes[:, 0], strict=True):
        _operation_bars(group, ax, points, " ".join(part for part in name if part))
    axes[-1][0].set_xlabel("time of a step (s)")
    say(figure, _measured_finding(steps))
    legend_below(figure, list(axes[:, 0]), columns=5)
    return figure, points.frame()


def _measured_finding(steps: pd.DataFrame) -> str:
    """The slowest part of the encrypted step that stands beside most steps in the clear, and its time over theirs."""
    encrypted = steps[[is_encrypted(name) for name in steps["backend"]] & steps["step_time_over_integer"].notna()]
    if not len(encrypted):
        return f"{steps['architecture'].iloc[0]}: time of a whole step by operation"
    step = encrypted.loc[encrypted[list(OVER)].notna().sum(axis=1).idxmax()]
    ratios = ", ".join(f"{ratio(step[column])} {name}" for column, name in OVER.items() if np.isfinite(step[column]))
    parts = step[list(STAGES)].astype(float)
    share = 100 * parts.max() / parts.sum()
    return (
        f"{step['architecture']} on {step['machine']}: a whole {step['backend']} step takes {ratios}; largest part, "
        f"{share:.0f} %: {STAGES[parts.idxmax()][0]}"
    )


def _operation_bars(steps: pd.DataFrame, ax: Axes, points: Points, panel: str) -> None:
    labels = [_bar_name(step) for _, step in steps.iterrows()]
    places, left = np.arange(len(steps))[::-1], np.zeros(len(steps))
    for stage, (name, colour) in STAGES.items():
        seconds = steps[stage].astype(float).fillna(0).to_numpy()
        ax.barh(places, seconds, left=left, label=name, color=colour, height=0.7)
        left = left + seconds
        for label, basis, value, ids in zip(labels, steps["basis"], seconds, steps["run_id"], strict=True):
            points.add(panel, name, label, value, basis, run_ids=ids)
    for place, end in zip(places, left, strict=True):
        ax.text(end, place, f" {end:.3g} s", va="center", fontsize=8)
    ax.set_yticks(places, labels)
    ax.set_xlim(0, 1.12 * left.max())
    tokens = ", ".join(f"{t:,.0f}" for t in sorted(set(steps["tokens"])))
    basis = ", ".join(sorted(set(steps["basis"])))
    ax.set_title(wrapped(f"{panel}, {tokens} tokens a step ({basis})", 2), loc="left")
    ax.grid(axis="y", visible=False)


def _bar_name(step) -> str:
    parts = [f"{step['backend']} {step['variant']}".strip(), f"{step['bits']} bits" if step["bits"] else "", step["inputs"]]
    return ", ".join(part for part in parts if part)


def bytes_per_token(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Ciphertext megabytes per token of the model shown, up and down, by tokens per batch and scheme."""
    lines = shown_lines(data)
    # Messages are the same on every machine.
    lines = lines[lines["backend"] != PLAIN].drop_duplicates(["backend", "options", "bits", "inputs", "tokens"])
    if not len(lines):
        return no_data()
    figure, axes = panels(1, 2, height=3.8, sharey=True)
    points = Points()
    for way, ax in zip(("upload", "download"), axes[0], strict=True):
        for label, style, group in schemes(lines):
            size = group[f"{way}_bytes_per_token"] / 1e6
            label += f", {group['round_trips'].iloc[0]:.0f} calls"
            ax.plot(group["tokens"], size, label=label, markersize=4, **style)
            points.add(way, label, group["tokens"], size.to_numpy(), "extrapolated", run_ids=ids_of(group))
        ax.set_title(f"{shown_model(data.costs)}: {way}, one worker", loc="left")
        ax.set_xlabel("tokens per batch")
        _by_tokens(ax, lines["tokens"])
    axes[0][0].set_ylabel("MB per token")
    say(figure, _bytes_finding(lines))
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def _bytes_finding(lines: pd.DataFrame) -> str:
    """What each scheme sends for a token, up and down together, at the smallest and at the largest batch."""
    sizes = lines.assign(total=(lines["upload_bytes_per_token"] + lines["download_bytes_per_token"]) / 1e6)
    few, many = (sizes[sizes["tokens"] == end].groupby("backend", sort=False)["total"].min() for end in _ends(sizes["tokens"]))
    told = [f"{name} {digits(few[name])} to {digits(many[name])}" for name in few.index if name in many]
    low, high = _ends(sizes["tokens"])
    return f"{lines['model'].iloc[0]}: predicted MB a token, both ways, at {low:,.0f} to {high:,.0f} tokens: {'; '.join(told)}"


def _ends(values: pd.Series) -> tuple[float, float]:
    return values.min(), values.max()
