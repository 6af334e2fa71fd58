"""The published figures: `FIGURES` maps a name to a function from `Data` to the figure and its points."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.names import check_name
from private_lora.publish.figures.style import STYLE, plt, write_figure
from private_lora.publish.functions import Functions
from private_lora.results.reader import Data, data_of
from private_lora.specs.published import PUBLISHED_FIGURES

FIGURES = Functions(PUBLISHED_FIGURES)


def make_figure(name: str, data: Data | str | Path, out: str | Path) -> None:
    """Write figure `name` as `out` (.png) with .pdf and .csv beside it; UserError on an unknown name.

    data: what was read, or the directory with the collected CSVs.
    """
    check_name("figure", name, PUBLISHED_FIGURES)
    with plt.rc_context(STYLE):
        figure, points = FIGURES[name](data_of(data))
        write_figure(figure, points, out, PUBLISHED_FIGURES[name].title)
