"""Figure of a step's time by the bandwidth of the client's link, with the bandwidths at which something changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from private_lora.costs.arrangement import BITS_PER_BYTE
from private_lora.costs.inputs import PLAIN
from private_lora.costs.model import transfer_time
from private_lora.publish.figures.cost import schemes, shown_lines
from private_lora.publish.figures.style import Points, legend_below, log_y, no_data, panel_each, say, wrapped
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data

BANDWIDTHS = np.logspace(6, 11, 101)  # bits per second
LARGEST = 4  # batches shown, from the largest down
HALF, EQUAL = "half of the step is network", "as fast as plaintext"
MARKERS, SIGNS = {HALF: "s", EQUAL: "o"}, {HALF: "□", EQUAL: "○"}
LINE = 0.065  # of a panel's height


def step_time_by_bandwidth(data: Data) -> tuple[Figure, pd.DataFrame]:
    """Predicted seconds of a step by bandwidth, beside the plaintext step at the client; a panel per machine and batch.

    The latency is the smallest of the configuration. Marked: where the network takes as long as all else, and from where on a
    scheme is no slower than the client by itself.
    """
    lines = shown_lines(data)
    latencies = sorted(set(data.costs["latency_s"].dropna())) or [0.0]
    batches = sorted(set(lines["tokens"]))[-LARGEST:]
    kinds = [kind for _, kind in lines[lines["tokens"].isin(batches)].groupby(["machine", "tokens"], sort=False)]
    if not kinds:
        return no_data()
    figure, axes = panel_each(len(kinds), 2, height=3.0, sharex=True, sharey=True)
    points = Points()
    found = [_panel(kind, latencies[0], ax, points) for kind, ax in zip(kinds, axes, strict=True)]
    log_y(axes[0])
    _list_all(axes, found)
    for ax in axes:
        spec = ax.get_subplotspec()
        ax.set_ylabel("time of a step (s)" if spec.is_first_col() else "")
        ax.set_xlabel("bandwidth of the client's link (bit/s)" if spec.is_last_row() else "")
    say(figure, _finding(kinds, pd.concat(found)))
    legend_below(figure, axes, columns=3)
    return figure, points.frame()


def crossings(line, alone: float, latency: float) -> dict[str, tuple[float, float]]:
    """Bandwidth (bit/s) and seconds of both crossings of a scheme, those that lie between the bandwidths shown.

    HALF: the network takes as long as all else. EQUAL: the step takes as long as the client by itself
    (`alone` seconds; NaN where that is not known).
    """
    beside = line["client_time_s"] + line["server_time_s"] + line["handling_time_s"]
    wanted = {HALF: 2 * beside, EQUAL: alone}
    found = {name: (_bandwidth_for(line, seconds, latency), seconds) for name, seconds in wanted.items()}
    return {name: place for name, place in found.items() if BANDWIDTHS[0] <= place[0] <= BANDWIDTHS[-1]}


def _panel(lines: pd.DataFrame, latency: float, ax: Axes, points: Points) -> pd.DataFrame:
    """Draw one; returns its crossings: backend, tokens, what, at (bit/s) and colour."""
    first, found = lines.iloc[0], []
    panel = f"{first['machine']}, {first['tokens']:.0f} tokens".removeprefix(", ")
    alone = lines[lines["backend"] == PLAIN].set_index("device")["client_time_s"]
    for label, style, group in schemes(lines):
        line = group.iloc[0]
        seconds = np.array([_seconds(line, bandwidth, latency) for bandwidth in BANDWIDTHS])
        ax.plot(BANDWIDTHS, seconds, label=label, **(style | {"marker": ""}))
        points.add(panel, label, BANDWIDTHS, seconds, "extrapolated", run_ids=ids_of(line))
        marked = {} if line["backend"] == PLAIN else crossings(line, alone.get(line["device"], np.nan), latency)
        for name, (bandwidth, height) in marked.items():
            _mark(ax, name, bandwidth, height, style["color"])
            points.add(panel, f"{label}: {name}", bandwidth, height, "extrapolated", run_ids=ids_of(line))
            mark = {"backend": line["backend"], "tokens": line["tokens"], "colour": style["color"]}
            found.append(mark | {"what": name, "at": bandwidth})
    ax.set_xscale("log")
    where = wrapped(f"{first['machine']}, {1e3 * latency:g} ms latency", 2)
    ax.set_title(f"{first['model']}, {first['tokens']:,.0f} tokens, one worker\n{where}", loc="left")
    return pd.DataFrame(found, columns=["backend", "tokens", "what", "at", "colour"])


def _mark(ax: Axes, name: str, bandwidth: float, height: float, colour: str) -> None:
    """A marker, with one entry of the legend for every colour."""
    ax.plot([bandwidth], [height], MARKERS[name], markersize=7, fillstyle="none", color=colour)
    if name not in ax.get_legend_handles_labels()[1]:
        ax.plot([], [], MARKERS[name], markersize=7, fillstyle="none", color="#444444", label=name)


def _list_all(axes: list[Axes], found: list[pd.DataFrame]) -> None:
    """The bandwidths of the marks, in every panel over all of its curves."""
    low, high = axes[0].get_ylim()
    share = LINE * (max(map(len, found)) + 0.5)
    axes[0].set_ylim(low, high * (high / low) ** (share / (1 - share)))
    for ax, marks in zip(axes, found, strict=True):
        for i, (_, mark) in enumerate(marks.iterrows()):
            text, place = f"{SIGNS[mark['what']]} {mark['backend']}: {_rate(mark['at'])}", (0.99, 0.99 - LINE * i)
            ax.text(*place, text, transform=ax.transAxes, ha="right", va="top", fontsize=8, color=mark["colour"])


def _rate(bandwidth: float) -> str:
    """Such as `2.81 Gbit/s`."""
    scale, unit = (1e9, "Gbit/s") if bandwidth >= 1e9 else (1e6, "Mbit/s")
    return f"{bandwidth / scale:.3g} {unit}"


def _seconds(line, bandwidth: float, latency: float) -> float:
    """Seconds of a step over such a network; at the client alone it needs none."""
    size = line["upload_bytes"] + line["download_bytes"]
    network = {"bandwidth_bits_per_s": bandwidth, "latency_s": latency}
    beside = line[["client_time_s", "server_time_s", "handling_time_s"]].sum()
    return beside + transfer_time(size, line["round_trips"], network)


def _bandwidth_for(line, seconds: float, latency: float) -> float:
    """Bits per second at which a step takes so many seconds; infinite if no bandwidth is enough."""
    left = seconds - _seconds(line, np.inf, latency)
    return BITS_PER_BYTE * (line["upload_bytes"] + line["download_bytes"]) / left if left > 0 else np.inf


def _finding(kinds: list[pd.DataFrame], found: pd.DataFrame) -> str:
    """From which bandwidth on a private step is no slower than the plaintext one, or how much slower it is at any."""
    model, equal = kinds[0]["model"].iloc[0], found[found["what"] == EQUAL]
    if len(equal):
        best = equal.sort_values("at").iloc[0]
        return (
            f"{model}: a step of {best['tokens']:,.0f} tokens with {best['backend']} is no slower than plaintext float32 from "
            f"{_rate(best['at'])} on, predicted"
        )
    ratios = {}
    for kind in kinds:
        alone = kind.loc[kind["backend"] == PLAIN, "client_time_s"]
        private = kind[kind["backend"] != PLAIN]
        for backend, seconds in zip(private["backend"], private["client_time_s"] + private["server_time_s"], strict=True):
            if len(alone):
                ratios[seconds / alone.iloc[0]] = f"{backend}, {kind['tokens'].iloc[0]:,.0f} tokens"
    if not ratios:
        return f"{model}: predicted time of a private step by bandwidth"
    least = min(ratios)
    return (
        f"{model}: at no bandwidth is a private step as fast as plaintext float32; without a network it takes at least "
        f"{least:.2f} times as long ({ratios[least]}), predicted"
    )
