"""Published values, copied into a study."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from private_lora.results.reader import CURVE_COLUMNS, LITERATURE_COLUMNS, PUBLISHED_COLUMNS


def collect_published(reference: str | Path, values_out: str | Path, curves_out: str | Path) -> None:
    """Write results/data/published_values.csv and published_curves.csv from resources/reference.

    The five-step losses become rows of the values file, with their step. Every row gets basis `published`.
    """
    reference = Path(reference)
    values = pd.read_csv(reference / "paper_values.csv", dtype=str, keep_default_na=False)
    steps = pd.read_csv(reference / "fhe_vs_clear_steps.csv", dtype=str, keep_default_na=False)
    values = pd.concat([values, steps]).fillna("").assign(basis="published")
    curves = pd.read_csv(reference / "convergence_curves.csv", dtype=str, keep_default_na=False)
    for frame, columns, out in ((values, PUBLISHED_COLUMNS, values_out), (curves, CURVE_COLUMNS, curves_out)):
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        frame.reindex(columns=columns).to_csv(out, index=False)


def collect_literature(reference: str | Path, out: str | Path) -> None:
    """Write results/data/published_literature.csv: figures of other systems, from resources/reference."""
    frame = pd.read_csv(Path(reference) / "literature.csv", dtype=str, keep_default_na=False)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    frame.reindex(columns=LITERATURE_COLUMNS).to_csv(out, index=False)
