"""Figures as drawn on the recorded rows: nothing covers data, no text covers another, no panel is empty; and their colours."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.colors import to_hex
from matplotlib.transforms import Bbox
from recorded_results import collect_recorded

from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import BACKEND_COLOURS, PLAINTEXT_COLOURS, STYLE, plt
from private_lora.results.reader import Data

# The same arithmetic, timed alone and inside a training step.
SAME = {"plaintext_float32": "float", "plaintext_int8": "integer"}
TOUCH = 1.5  # pixels by which boxes of letters may touch


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Data:
    return Data(collect_recorded(tmp_path_factory.mktemp("recorded")))


def shrunk(box):
    return box.padded(-TOUCH)


def texts_of(figure, renderer) -> list[tuple[str, object]]:
    """All visible texts with their boxes."""
    found = [figure._suptitle, *(text for legend in figure.legends for text in legend.get_texts())]
    for ax in figure.axes:
        found += [ax.title, ax._left_title, *ax.texts]
        if ax.axison:
            found += [ax.xaxis.label, ax.yaxis.label, *shown_ticks(ax)]
    drawn = [text for text in found if text is not None and text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), letters(text, renderer)) for text in drawn]


def letters(text, renderer) -> Bbox:
    """The box of a text without the empty lines that it begins with."""
    box, lines = text.get_window_extent(renderer), text.get_text().split("\n")
    empty = len(lines) - len(text.get_text().lstrip("\n").split("\n"))
    return Bbox([[box.x0, box.y0], [box.x1, box.y1 - box.height * empty / len(lines)]])


def shown_ticks(ax) -> list:
    return [
        tick.label1
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim())))
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if low <= tick.get_loc() <= high
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_covers_data_or_another_text(recorded, name):
    with plt.rc_context(STYLE):
        figure, points = FIGURES[name](recorded)
        figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    if not len(points):
        pytest.skip("no kept record has data of it")
    for legend, ax in itertools.product(figure.legends, figure.axes):
        assert not shrunk(legend.get_window_extent(renderer)).overlaps(ax.get_window_extent(renderer))
        assert ax.get_legend() is None
    texts = texts_of(figure, renderer)
    for text, box in texts:
        assert box.x0 >= -TOUCH and box.x1 <= figure.bbox.x1 + TOUCH, f"cut: {text!r}"
        assert box.y0 >= -TOUCH and box.y1 <= figure.bbox.y1 + TOUCH, f"cut: {text!r}"
    for (first, a), (second, b) in itertools.combinations(texts, 2):
        assert not shrunk(a).overlaps(shrunk(b)), f"{first!r} covers {second!r}"
    assert figure.get_suptitle()
    assert all(ax.has_data() or ax.texts for ax in figure.axes), "an empty panel"
    assert "no data" not in [text for text, _ in texts]
    plt.close(figure)


def test_every_backend_has_a_colour_of_its_own():
    colours = BACKEND_COLOURS | {name: colour for name, colour in PLAINTEXT_COLOURS.items() if name not in SAME}
    assert len(set(map(to_hex, colours.values()))) == len(colours)
    for name, backend in SAME.items():
        assert PLAINTEXT_COLOURS[name] == BACKEND_COLOURS[backend]
