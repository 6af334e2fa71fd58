"""README and docs are what the recorded results make of their templates: a cell that changes makes them stale."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.testing.compare import compare_images
from recorded_results import collect_recorded

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.publish.docs.macros import IMAGES
from private_lora.publish.docs.pages import Pages
from private_lora.publish.docs.tables import Tables, value_of
from private_lora.publish.figures import make_figure
from private_lora.publish.tables import make_table
from private_lora.results.reader import Data

# Root mean square of the differences of brightness, of 255. Another version of a library may smooth an edge otherwise.
TOLERANCE = 2.0
# Of the cells of a page, how many are left out between two that are changed.
EVERY = 40


class MadeTables(Tables):
    """Tables of the recorded results, each made when a page first asks for it."""

    def __init__(self, data: Data, directory: Path):
        super().__init__(directory)
        self.directory, self._data = directory, data

    def _read(self, name: str):
        make_table(name, self._data, self.directory / f"{name}.csv")
        return super()._read(name)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Data(collect_recorded(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def rendered(data, tmp_path_factory):
    """All pages, their texts, and the directory of the tables that they are made of."""
    tables = MadeTables(data, tmp_path_factory.mktemp("tables"))
    pages = Pages(tables)
    return pages, pages.render(), tables.directory


def test_pages_are_current(rendered):
    _, texts, _ = rendered
    stale = [str(path) for path, text in texts.items() if (ROOT / path).read_text() != text]
    assert not stale, "write them anew: `make docs`"


def test_a_changed_cell_makes_its_pages_stale(rendered):
    """Cells of each page, one at a time: another text, or a refusal because the row that was asked for is gone."""
    pages, texts, directory = rendered
    for path, macros in pages.used.items():
        for row, column in list(macros.cells)[::EVERY]:
            try:
                texts_then = Pages(Altered(directory, row.table, row.number, column)).render()
            except UserError:
                continue
            assert texts_then[path] != texts[path], f"{path} does not depend on {column} of {row.table}, row {row.number}"


class Altered(Tables):
    """Tables of which one cell is another."""

    def __init__(self, directory: Path, *cell: str | int):
        super().__init__(directory)
        self._table, self._number, self._column = cell

    def _read(self, name: str):
        rows = super()._read(name)
        if name == self._table:
            values = rows[self._number - 1].values
            values[self._column] = altered(values[self._column])
        return rows


def altered(text: str) -> str:
    return f"another {text}" if isinstance(value_of(text), str) else str(2 * float(text) + 1)


def test_images_are_current(rendered, data, tmp_path):
    pages, _, _ = rendered
    for name in pages.figures:
        make_figure(name, data, tmp_path / f"{name}.png")
        difference = compare_images(ROOT / IMAGES / f"{name}.png", tmp_path / f"{name}.png", TOLERANCE)
        assert difference is None, f"make it anew with `make docs`: {difference}"


def test_every_image_is_shown_by_a_page_or_drawn_by_hand(rendered):
    pages, _, _ = rendered
    assert {path.stem for path in (ROOT / IMAGES).glob("*.png")} == set(pages.figures)
