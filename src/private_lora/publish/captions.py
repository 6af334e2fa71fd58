"""Captions of the report, as Snakemake reads them: one file for each published table and figure, from what describes it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES

WIDTH = 128


def captions() -> dict[str, str]:
    """Text by name of its file."""
    kinds = {"table": PUBLISHED_TABLES, "figure": PUBLISHED_FIGURES}
    entries = [(kind, entry) for kind, known in kinds.items() for entry in known.values()]
    return {f"{kind}_{entry.name}.rst": textwrap.fill(entry.caption, WIDTH) + "\n" for kind, entry in entries}


def write_captions(directory: str | Path) -> None:
    """Write every caption into the directory, and delete those of tables and figures that are no more."""
    directory, texts = Path(directory), captions()
    for path in [*directory.glob("table_*.rst"), *directory.glob("figure_*.rst")]:
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
