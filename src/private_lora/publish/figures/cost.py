"""Figures of what a step costs: seconds by batch, by operation and by bandwidth, and bytes per token."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from private_lora.costs.inputs import PER_ROW, PLAIN
from private_lora.costs.model import BITS_PER_BYTE, transfer_time
from private_lora.publish.figures.style import (
    BACKEND_COLOURS,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    SKY,
    VERMILLION,
    Points,
    legend_below,
    log_y,
    panels,
    say_no_data,
)
from private_lora.publish.tables.full_step import full_steps
from private_lora.publish.tables.step_cost import SETTING, predictions, shown_model, step_tokens
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data

COLOURS = BACKEND_COLOURS | {PLAIN: BLACK}
OPTION_MARKERS = ("o", "s", "^", "D", "v", "P")
STAGES = {
    "rest_s": ("everything else (client)", GREY),
    "quantize_s": ("quantize (client)", SKY),
    "encrypt_s": ("encrypt (client)", BLUE),
    "decrypt_s": ("decrypt (client)", GREEN),
    "server_s": ("server", VERMILLION),
}
BANDWIDTHS = np.logspace(6, 11, 101)  # bits per second


def _lines(data: Data) -> pd.DataFrame:
    """Predictions of the model shown, with one worker over the first network, one line per scheme, machine and batch."""
    lines = predictions(data, [name for name in SETTING if name != "tokens"])
    lines = lines[(lines["model"] == shown_model(data.costs)) & (lines["workers"].isna() | (lines["workers"] == 1))]
    key = ["backend", "options", "device", "machine", "bits", "inputs", "tokens"]
    return lines.sort_values("latency_s", kind="stable").drop_duplicates(key).sort_values("tokens", kind="stable")


def _series(lines: pd.DataFrame) -> list[tuple[str, dict, pd.DataFrame]]:
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


def _machines(lines: pd.DataFrame) -> list[str]:
    """Machines, one panel each; one without a name where there are no lines."""
    return list(dict.fromkeys(lines["machine"])) or [""]


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
    lines, steps = _lines(data), full_steps(data)
    model = shown_model(data.costs)
    steps = steps[(steps["architecture"] == model) & (steps["blocks"] == steps["model_blocks"])]
    machines = _machines(lines)
    figure, axes = panels(len(machines), 1, height=4.8)
    points = Points()
    for machine, ax in zip(machines, axes[:, 0], strict=True):
        _step_panel(lines[lines["machine"] == machine], steps[steps["machine"] == machine], ax, points, machine)
        ax.set_title(_named(f"{model}: one training step, client and one worker, without a network", machine), loc="left")
        ax.set_ylabel("time of a step (s)")
    axes[-1][0].set_xlabel("tokens per batch")
    legend_below(figure, axes[:, 0], columns=3)
    return figure, points.frame()


def _step_panel(lines: pd.DataFrame, steps: pd.DataFrame, ax: Axes, points: Points, machine: str) -> None:
    """Predictions as lines, and the whole steps that were measured as stars."""
    if not len(lines):
        return say_no_data(ax)
    for label, style, group in _series(lines):
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
    return None


def full_step_operations(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Seconds of a measured full step by operation, mean over steps, one bar for each run of whole models."""
    steps = full_steps(data)
    steps = steps[steps["blocks"] == steps["model_blocks"]]
    names = list(dict.fromkeys(zip(steps["architecture"], steps["machine"], strict=True))) or [("", "")]
    figure, axes = panels(len(names), 1, height=2.0)
    points = Points()
    for (model, machine), ax in zip(names, axes[:, 0], strict=True):
        chosen = steps[(steps["architecture"] == model) & (steps["machine"] == machine)]
        _operation_bars(chosen, ax, points, " ".join(part for part in (model, machine) if part))
    axes[-1][0].set_xlabel("time of a step (s)")
    legend_below(figure, list(axes[:, 0]), columns=5)
    return figure, points.frame()


def _operation_bars(steps: pd.DataFrame, ax: Axes, points: Points, panel: str) -> None:
    if not len(steps):
        return say_no_data(ax)
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
    ax.set_title(f"{panel}, {tokens} tokens a step ({', '.join(sorted(set(steps['basis'])))})", loc="left")
    ax.grid(axis="y", visible=False)
    return None


def _bar_name(step) -> str:
    parts = [f"{step['backend']} {step['variant']}".strip(), f"{step['bits']} bits" if step["bits"] else "", step["inputs"]]
    return ", ".join(part for part in parts if part)


def bytes_per_token(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Ciphertext megabytes per token of the model shown, up and down, by tokens per batch and scheme."""
    figure, axes = panels(1, 2, height=4.2, sharey=True)
    points, lines = Points(), _lines(data)
    # Messages are the same on every machine.
    lines = lines[lines["backend"] != PLAIN].drop_duplicates(["backend", "options", "bits", "inputs", "tokens"])
    for way, ax in zip(("upload", "download"), axes[0], strict=True):
        for label, style, group in _series(lines):
            size = group[f"{way}_bytes_per_token"] / 1e6
            label += f", {group['round_trips'].iloc[0]:.0f} calls"
            ax.plot(group["tokens"], size, label=label, markersize=4, **style)
            points.add(way, label, group["tokens"], size.to_numpy(), "extrapolated", run_ids=ids_of(group))
        ax.set_title(f"{shown_model(data.costs)}: {way}, one worker", loc="left")
        ax.set_xlabel("tokens per batch")
        _by_tokens(ax, lines["tokens"]) if len(lines) else say_no_data(ax)
    axes[0][0].set_ylabel("MB per token")
    legend_below(figure, axes[0], columns=3)
    return figure, points.frame()


def step_time_by_bandwidth(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Predicted seconds of a step by bandwidth, beside the plaintext step at the client; a panel per latency.

    Marked: where the network takes as long as all else, and where a scheme is as fast as the client by itself.
    """
    lines = _lines(data)
    lines = lines[lines["tokens"] == step_tokens(data.costs)]
    latencies = sorted(set(data.costs["latency_s"].dropna())) or [0.0]
    chosen, machines = sorted({latencies[0], latencies[-1]}), _machines(lines)
    figure, axes = panels(len(machines), len(chosen), height=4.4, sharey="row")
    points = Points()
    for machine, row in zip(machines, axes, strict=True):
        for latency, ax in zip(chosen, row, strict=True):
            _bandwidth_panel(lines[lines["machine"] == machine], latency, ax, points, machine)
        row[0].set_ylabel("time of a step (s)")
        # Over the first panel alone: a machine's name is long, and reaches over the next.
        row[0].set_title(_named(row[0].get_title(loc="left"), machine), loc="left")
    for ax in axes[-1]:
        ax.set_xlabel("bandwidth of the client (bit/s)")
    legend_below(figure, axes.flat, columns=3)
    return figure, points.frame()


def _bandwidth_panel(lines: pd.DataFrame, latency: float, ax: Axes, points: Points, machine: str) -> None:
    if not len(lines):
        return say_no_data(ax)
    panel, labels = ", ".join(part for part in (machine, f"latency {1e3 * latency:g} ms") if part), []
    alone = lines.loc[lines["backend"] == PLAIN].set_index("device")["client_time_s"]
    for label, style, group in _series(lines):
        line = group.iloc[0]
        seconds = np.array([_seconds(line, bandwidth, latency) for bandwidth in BANDWIDTHS])
        ax.plot(BANDWIDTHS, seconds, label=label, **(style | {"marker": ""}))
        points.add(panel, label, BANDWIDTHS, seconds, "extrapolated", run_ids=ids_of(line))
        for marker, name, bandwidth, height in _crossings(line, alone, latency):
            ax.plot([bandwidth], [height], marker, markersize=7, fillstyle="none", color=style["color"])
            points.add(panel, f"{label}: {name}", bandwidth, height, "extrapolated", run_ids=ids_of(line))
            labels.append((f"{name}: {_rate(bandwidth)}", style["color"]))
    ax.set_xscale("log")
    log_y(ax)
    _list(ax, labels)
    ax.set_title(f"{line['model']}, {line['tokens']:,.0f} tokens, one worker, latency {1e3 * latency:g} ms", loc="left")
    return None


def _list(ax: Axes, labels: list[tuple[str, str]]) -> None:
    """The marked points' values one below the other, on white, where the curves have fallen."""
    for i, (text, colour) in enumerate(labels):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        place = {"transform": ax.transAxes, "ha": "right", "va": "top", "fontsize": 8, "bbox": box}
        ax.text(0.98, 0.90 - 0.06 * i, text, color=colour, **place)


def _rate(bandwidth: float) -> str:
    """Such as `2.81 Gbit/s`."""
    scale, unit = (1e9, "Gbit/s") if bandwidth >= 1e9 else (1e6, "Mbit/s")
    return f"{bandwidth / scale:.3g} {unit}"


def _seconds(line, bandwidth: float, latency: float) -> float:
    """Seconds of a step over such a network; at the client alone it needs none."""
    size = line["upload_bytes"] + line["download_bytes"]
    network = {"bandwidth_bits_per_s": bandwidth, "latency_s": latency}
    return line["client_time_s"] + line["server_time_s"] + transfer_time(size, line["round_trips"], network)


def _crossings(line, alone: pd.Series, latency: float) -> list[tuple[str, str, float, float]]:
    """Marker, name, bandwidth and seconds of two crossings of a scheme, those that lie between the bandwidths shown.

    Square: the network takes as long as client and worker together. Circle: the step takes as long as the client by itself.
    """
    if line["backend"] == PLAIN:
        return []
    wanted = [("s", "□ half is network", 2 * (line["client_time_s"] + line["server_time_s"]))]
    wanted += [("o", "○ as fast as plaintext", alone[line["device"]])] if line["device"] in alone else []
    found = [(marker, name, _bandwidth_for(line, seconds, latency), seconds) for marker, name, seconds in wanted]
    return [entry for entry in found if BANDWIDTHS[0] <= entry[2] <= BANDWIDTHS[-1]]


def _bandwidth_for(line, seconds: float, latency: float) -> float:
    """Bits per second at which a step takes so many seconds; infinite if no bandwidth is enough."""
    left = seconds - _seconds(line, np.inf, latency)
    return BITS_PER_BYTE * (line["upload_bytes"] + line["download_bytes"]) / left if left > 0 else np.inf
