"""What the figures share: palette, panels, legends, and the record of every plotted point."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from private_lora.results.labels import USERS_OWN, join_basis
from private_lora.specs import colours
from private_lora.specs.backends import BACKENDS, PLAINTEXT
from private_lora.specs.quantizers import NO_PAIR, PAIRS

DPI = 150

BLACK, ORANGE, SKY, GREEN = colours.BLACK, colours.ORANGE, colours.SKY, colours.GREEN
BLUE, VERMILLION, PURPLE, GREY = colours.BLUE, colours.VERMILLION, colours.PURPLE, colours.GREY

PAIR_COLOURS = {pair.name: pair.colour for pair in (NO_PAIR, *PAIRS.values()) if pair.colour}
PAIR_MARKERS = {pair.name: pair.marker for pair in PAIRS.values() if pair.marker}
BACKEND_COLOURS = {name: backend.colour for name, backend in BACKENDS.items()}
PLAINTEXT_COLOURS = {name: product.colour for name, product in PLAINTEXT.items()}
# Float lies wide and pale under the curves that are compared with it.
FLOAT_LINE = {"color": BACKEND_COLOURS["float"], "alpha": 0.27, "linewidth": 3.2, "linestyle": "solid"}
BITS_STYLES = {
    4: (0, (1, 1)),
    6: (0, (3, 1, 1, 1, 1, 1)),
    7: (0, (5, 1, 1, 1)),
    8: (0, (4, 1.5)),
    12: (0, (8, 2)),
    16: "solid",
}
PUBLISHED = "published (Llama-3.2-1B, orca-math)"
RUNNING_MEAN = "mean train loss so far (nats)"
WIDTH = 8  # inches of every figure
POINT_COLUMNS = ["panel", "series", "x", "y", "y_min", "y_max", "basis", "run_ids"]
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "figure.dpi": 100,
    "pdf.fonttype": 42,
}


class Points:
    """Every point that a figure plots, one line per point, for the CSV beside it."""

    def __init__(self):
        self._parts: list[pd.DataFrame] = []

    def add(self, panel: str, series: str, x, y, basis: str, low=np.nan, high=np.nan, run_ids: str = "") -> None:
        """Record points of one series; `low` and `high` are the ends of the drawn spread, run_ids those of the runs behind."""
        part = pd.DataFrame({"x": np.atleast_1d(x), "y": np.atleast_1d(y)})
        part = part.assign(panel=panel, series=series, y_min=low, y_max=high, basis=basis, run_ids=run_ids)
        self._parts.append(part[POINT_COLUMNS])

    def frame(self) -> pd.DataFrame:
        """All recorded points; empty, with its columns, when a figure had no data."""
        return pd.concat(self._parts, ignore_index=True) if self._parts else pd.DataFrame(columns=POINT_COLUMNS)


def panels(rows: int, columns: int, height: float = 2.6, **options) -> tuple[Figure, np.ndarray]:
    """A figure of report width and its axes, always as a 2-D array."""
    size = (WIDTH, height * rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
    return figure, axes


def panel_each(count: int, columns: int, height: float = 2.6, **options) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, at most `columns` in a row."""
    columns = min(columns, count)
    figure, axes = panels(-(-count // columns), columns, height, **options)
    for ax in axes.flat[count:]:
        ax.remove()
    return figure, list(axes.flat[:count])


def no_data() -> tuple[Figure, pd.DataFrame]:
    """A figure that says that it has no data, and its points: none."""
    figure, axes = panels(1, 1, height=1.2)
    ax = axes[0][0]
    ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY)
    ax.set_axis_off()
    return figure, Points().frame()


def say(figure: Figure, finding: str) -> None:
    """Write what the data show, in a sentence, over all panels."""
    figure.suptitle(textwrap.fill(finding, 90, break_on_hyphens=False), x=0.01, ha="left", fontsize=10, fontweight="bold")


def wrapped(text: str, columns: int = 1) -> str:
    """A title on as many lines as it needs in a panel that is one of so many in a row."""
    return textwrap.fill(text, int(14.5 * (WIDTH / columns - 0.6)), break_on_hyphens=False, break_long_words=False)


def is_encrypted(backend: str) -> bool:
    """Whether what is measured under this name computes on ciphertexts."""
    return backend in BACKENDS and BACKENDS[backend].encrypted


def digits(number: float, count: int = 2) -> str:
    """A number of so many digits, never as a power of ten: `0.69`, `13,000`."""
    return f"{float(f'{number:.{count}g}'):,.12g}"


def ratio(number: float) -> str:
    """Such as `0.69×`, `6.20×` or `85,000×`."""
    return f"{number:.2f}×" if number < 10 else f"{digits(number)}×"


def percent(gap: float) -> str:
    """Such as `+0.65 %`."""
    return f"{'+' if gap >= 0 else ''}{digits(gap)} %"


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def name_row(ax: Axes, text: str) -> None:
    """Write what a whole row of panels shows above the title of its first one."""
    # Not in the layout: it may reach over the next panel, whose title leaves this line free.
    ax.text(0, 1.14, text, transform=ax.transAxes, fontsize=9).set_in_layout(False)


def log_y(ax: Axes) -> None:
    """Logarithmic y axis, labelled in plain numbers, also between decades where it spans only one or two."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high / low > 100:
        return
    few = high / low > 8
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1, 1.5, 2, 3, 4, 5, 6, 8), numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = 5) -> None:
    """One legend under all panels, each label once, in at most so many columns as fit: it can cover no data there."""
    handles = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for count in range(min(columns, len(handles)), 0, -1):
        legend = figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=count, fontsize=8, frameon=False
        )
        if count == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width:
            break
        legend.remove()


def study_name(runs: pd.DataFrame) -> str:
    """`ours: model, data (basis)`, for the title of a panel that shows these runs; with their variant if all have the same."""
    if not len(runs):
        return "this study"
    return f"ours: {runs['model'].iloc[0]}, {source_name(runs)} ({join_basis(runs['basis'])})"


def source_name(runs: pd.DataFrame) -> str:
    """`data, variant`, the variant if all runs have the same; that alone where the data's name says only how it was read."""
    variants, dataset = set(runs["study" if "study" in runs else "variant"]) - {""}, runs["dataset"].iloc[0]
    variant = variants.pop() if len(variants) == 1 else ""
    names = [variant] if variant and dataset in USERS_OWN else [dataset, variant]
    return ", ".join(name for name in names if name)


def _write_png(figure: Figure, out: Path, title: str) -> None:
    """The figure in 256 colours, a third of the bytes: pages have it inside."""
    drawn, about = io.BytesIO(), PngInfo()
    figure.savefig(drawn, format="png", dpi=DPI)
    about.add_text("Title", title)
    few = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(out, "png", optimize=True, dpi=(DPI, DPI), pnginfo=about)


def write_figure(figure: Figure, points: pd.DataFrame, out: str | Path, title: str) -> None:
    """Write `out` (a .png of DPI), and beside it the .pdf and the plotted points as .csv; both images name the title."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _write_png(figure, out, title)
    # Without a creation date the same data give the same bytes.
    figure.savefig(out.with_suffix(".pdf"), metadata={"CreationDate": None, "Title": title})
    points.to_csv(out.with_suffix(".csv"), index=False)
    plt.close(figure)
