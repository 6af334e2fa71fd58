"""Short names, labels and the order in which tables and figures list backends, pairs and stages."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from private_lora.specs import quantizers
from private_lora.specs.backends import BACKENDS, PLAINTEXT
from private_lora.specs.stages import STAGES

SHORT_PAIRS = {(pair.activations, pair.weights): pair.name for pair in quantizers.PAIRS.values()}
LABELS = {name: entry.label for name, entry in (PLAINTEXT | BACKENDS).items()}
PUBLISHED_PAIRS = ("DTok-SC", "DTen-ST", "ST-ST")
DEFAULT_PAIR = quantizers.DEFAULT_PAIR
PAIRS = (quantizers.NO_PAIR.name, *quantizers.PAIRS)
# Data whose names say how texts were read, and not which they are.
USERS_OWN = ("jsonl", "hub")
# How the calls of layers with the same input are arranged: by the value of the column `inputs`.
CALLS = {"joint": "one call for layers that share an input", "apart": "each layer a call"}
CALLS_NOTE = f"inputs joint: {CALLS['joint']} (q, k, v; gate, up); apart: {CALLS['apart']}."


def name_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with `quantizer`: DTok-SC, DTen-ST, ST-ST, Sym, float, or both names of any other pair.

    A backend that does not quantize treats no constant rows, and a float run has neither pair nor bits, whatever their specs'
    defaults say. What Concrete ML's own trainer does is in its rows.
    """
    frame = frame.copy()
    pairs = zip(frame["activation_quantizer"], frame["weight_quantizer"], strict=True)
    frame["quantizer"] = [SHORT_PAIRS.get(pair, " x ".join(pair)) for pair in pairs]
    is_float = frame["backend"] == "float"
    frame.loc[is_float, "quantizer"] = "float"
    for column in {"activation_bits", "weight_bits"} & set(frame.columns):
        frame.loc[is_float, column] = np.nan
    if "constant_rows" in frame:
        unquantized = [name for name, backend in BACKENDS.items() if not backend.quantized]
        frame.loc[frame["backend"].isin(unquantized), "constant_rows"] = ""
    return frame


def backend_label(row) -> str:
    """What did the work, as one name: backend, mode, pair if not DTok-SC, device if not the CPU, constant rows."""
    label = LABELS.get(row["backend"], row["backend"])
    if row["variant"]:
        label += f" {row['variant']}"
    if row.get("quantizer") in set(SHORT_PAIRS.values()) - {DEFAULT_PAIR}:
        label += f" {row['quantizer']}"
    if row["device"] not in ("", "cpu"):
        label += f" {row['device']}"
    if '"mask":"fresh"' in (row.get("options") or "") and "fresh" not in row["variant"]:
        label += " fresh masks"
    return label + (", reference rows" if row["constant_rows"] == "reference" else "")


def bits_label(activation_bits: float, weight_bits: float) -> str:
    """`8` when both are 8, `a8/w6` when they differ, empty for float."""
    if pd.isna(activation_bits):
        return ""
    if activation_bits == weight_bits or pd.isna(weight_bits):
        return f"{activation_bits:.0f}"
    return f"a{activation_bits:.0f}/w{weight_bits:.0f}"


def join_basis(values: Iterable[str]) -> str:
    """The distinct bases among the rows behind a number, joined by ` + `."""
    return " + ".join(sorted({v for v in values if v}))


def ids_of(*sources: pd.DataFrame | pd.Series | dict | str | None) -> str:
    """The distinct run ids behind a number, in the order given, with a space between; empty for none.

    sources: rows or lines (column `run_ids`, else `run_id`), one of them, a column of ids, or ids as text; None is nothing.
    """
    return " ".join(dict.fromkeys(name for source in sources for text in _ids(source) for name in text.split()))


def _ids(source) -> Iterable[str]:
    if source is None or isinstance(source, str):
        return [source or ""]
    for column in ("run_ids", "run_id"):
        if column in source:
            found = source[column]
            return [found] if isinstance(found, str) else found
    return source if isinstance(source, pd.Series) and source.dtype == object else []


def in_order(frame: pd.DataFrame, columns: list[str], models: tuple[str, ...] = ()) -> pd.DataFrame:
    """The rows sorted by `columns`, with stages, pairs and backends in the order of the study.

    models: those that come first, in this order; all others follow by name.
    """
    ranks = {"stage": STAGES, "quantizer": PAIRS, "backend": (*PLAINTEXT, *BACKENDS), "model": models}

    def key(column: pd.Series) -> pd.Series:
        known = ranks.get(str(column.name))
        if not known:
            return column
        return column.map(lambda v: f"{known.index(v):02d}" if v in known else f"99{v}")

    return frame.sort_values(columns, key=key, kind="stable").reset_index(drop=True)
