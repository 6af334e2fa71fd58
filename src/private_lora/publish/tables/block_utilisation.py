"""Table of how much of its machine's measured ceilings each product of a block uses."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.tables.block import RUN, block_summary
from private_lora.results.reader import Data
from private_lora.specs.backends import PLAINTEXT

PACKED = ("packed", "packed_approx")
# Bytes of an operand's entry and of a result's, in each type.
ENTRY_BYTES = {
    "plaintext_float32": (4, 4),
    "plaintext_float32_onednn": (4, 4),
    "plaintext_float64": (8, 8),
    "plaintext_bf16": (2, 2),
    "plaintext_int8": (1, 4),
}
CIPHERTEXTS = ["upload_ciphertext_bytes", "download_ciphertext_bytes"]
INT8_CEILING, COPY_CEILING = CEILINGS = ["ceiling_int8_ops_per_s", "ceiling_copy_bytes_per_s"]
COLUMNS = [
    "model",
    "backend",
    "options",
    "tokens",
    "layers",
    "inputs",
    "device",
    "machine",
    "activation_bits",
    "weight_bits",
    "server_ms_per_token",
    "operations_per_token",
    "operations_per_s",
    "share_of_int8_ceiling",
    "share_of_copy_ceiling",
    *CEILINGS,
    "basis",
    "run_ids",
]


def block_utilisation(data: Data) -> pd.DataFrame:
    """Operations per second of the products of a block, and their shares of the int8 and copy ceilings of the same process.

    A line for each run and backend that multiplies in the clear or counts its int8 operations; empty where something was not
    counted or measured.
    """
    rows, summary = data.block, block_summary(data)
    summary["run_ids"] = summary["run_id"]
    lines = [_line(rows, line) for _, line in summary.iterrows() if line["backend"] in (*PLAINTEXT, *PACKED)]
    table = pd.DataFrame(lines, columns=COLUMNS)
    table.attrs["notes"] = [
        "Server time of the layers listed, forward and backward: median over repeats. Operations, two for each product of two "
        "entries: packed, those of the int8 products that the server counted (byte planes x rows x padded inputs x outputs); "
        "plaintext, 2 x rows x inputs x outputs, in the type named. A packed server without int8 products counts none, "
        "and plaintext int8 of such a CPU multiplies in float, so that its share may be above 1.",
        "Ceilings, measured in the same process: torch's int8 product of a large square, and bytes read and written by a copy "
        "of a large tensor. Share of the copy ceiling: of what the time would let a copy move, if operands and results moved "
        "once (packed: the messages and the weight; masks are expanded from a seed). Server time is all of the server's work.",
    ]
    return table


def _line(rows: pd.DataFrame, line: pd.Series) -> pd.Series:
    of_run = rows[(rows[RUN] == line[RUN]).all(axis=1)]
    products = of_run[of_run["phase"].isin(["forward", "backward"]) & (of_run["backend"] == line["backend"])]
    products = products[products["options"] == line["options"]]
    once = products[products["repeat"] == products["repeat"].min()]
    by_product = once.pivot(index=["layer", "phase", "tokens", "inputs", "outputs"], columns="metric", values="value")
    by_product = by_product.reset_index()
    clear = line["backend"] in PLAINTEXT
    operations, moved = (_of_plaintext if clear else _of_packed)(by_product, line)
    ceilings = of_run[of_run["metric"].isin(CEILINGS)].set_index("metric")["value"].reindex(CEILINGS)
    seconds = line["server_ms_per_token"] / 1e3 * line["tokens"]
    found = {"operations_per_token": operations / line["tokens"], "operations_per_s": operations / seconds}
    found |= {"share_of_int8_ceiling": operations / seconds / ceilings[INT8_CEILING]}
    found |= {"share_of_copy_ceiling": moved / seconds / ceilings[COPY_CEILING]}
    return pd.concat([line, pd.Series(found), ceilings])


def _of_plaintext(products: pd.DataFrame, line: pd.Series) -> tuple[float, float]:
    """Operations, and bytes of operands and results, of all products."""
    rows, inputs, outputs = (products[name] for name in ("tokens", "inputs", "outputs"))
    entry, result = ENTRY_BYTES[line["backend"]]
    moved = entry * (rows * inputs + inputs * outputs) + result * rows * outputs
    return float((2 * rows * inputs * outputs).sum()), float(moved.sum())


def _of_packed(products: pd.DataFrame, line: pd.Series) -> tuple[float, float]:
    """Counted operations, NaN unless every product has them, and bytes of messages and weights, of all products."""
    counted = products.reindex(columns=["int8_operations", *CIPHERTEXTS]).astype(float)
    weights = products["inputs"] * products["outputs"] * np.ceil(line["weight_bits"] / 8)
    moved = counted[CIPHERTEXTS].sum(axis=1, skipna=False) + weights
    return float(counted["int8_operations"].sum(skipna=False)), float(moved.sum(skipna=False))
