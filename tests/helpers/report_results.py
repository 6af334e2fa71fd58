"""Results directories with tables and figures, for tests of the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from private_lora.publish.figures import make_figure
from private_lora.publish.tables import make_table
from private_lora.results.reader import Data
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES


def publish(data: Path, tables: Iterable[str] = PUBLISHED_TABLES, figures: Iterable[str] = PUBLISHED_FIGURES) -> Path:
    """The directory of results whose `data` this is, with the tables and figures of these names made."""
    results, read = data.parent, Data(data)
    for name in tables:
        make_table(name, read, results / "tables" / f"{name}.csv")
    for name in figures:
        make_figure(name, read, results / "figures" / f"{name}.png")
    return results
