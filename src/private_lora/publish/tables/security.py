"""Table of the parameters of every encrypted run, beside what they may be at 128 bits of security."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from private_lora.results.labels import bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import run_metrics

RUN = ("largest_ring_size", "largest_log2_q", "security_bits", "encrypted_matmuls")
SAME = ["model", "backend", "mask", "bits", "largest_ring_size", "largest_log2_q"]
MARGINS = ["classical_cap_log2_q", "classical_margin_bits", "quantum_cap_log2_q", "quantum_margin_bits"]
COLUMNS = [*SAME, *MARGINS, "security_bits", "runs", "basis", "run_ids"]


def security(data: Data) -> pd.DataFrame:
    """One line for each model, scheme, mask, bits and modulus that was encrypted with."""
    rows = pd.concat([data.convergence, data.loopback], ignore_index=True)
    found = pd.DataFrame([_run(group) for _, group in rows.groupby(["run_id", "machine"], sort=False)], columns=COLUMNS)
    found = found[found["largest_log2_q"].notna() & (found["basis"] == "measured")]
    lines = [_line(group) for _, group in found.groupby(SAME, sort=False)]
    table = in_order(pd.DataFrame(lines, columns=COLUMNS), ["model", "backend", "mask", "largest_log2_q"])
    table.attrs["notes"] = [
        "largest ring size (N), largest log2 q: of all layers of a run, which its sidecar has one by one. cap: the largest "
        "log2 Q for 128 bits of security with this ring, by classical and by quantum estimates; margin: cap less log2 Q. A "
        "negative margin means fewer than 128 bits by that estimate. runs: how many have these parameters.",
        "Under session masks, the classical cap is lowered when parameters are chosen, so that 128 bits are left in the proof "
        "for many secrets under one mask; the cap here is that of one secret.",
    ]
    return table


def _run(rows: pd.DataFrame) -> dict:
    first = rows.iloc[0]
    line = run_metrics(rows, RUN) | {"model": first["model"], "backend": first["backend"], "mask": _mask(first["options"])}
    line["bits"] = bits_label(first["activation_bits"], first["weight_bits"])
    return line | {"basis": join_basis(rows["basis"]), "run_ids": ids_of(rows)}


def _mask(options: str) -> str:
    return json.loads(options or "{}").get("mask", "session")


def _line(runs: pd.DataFrame) -> dict:
    from private_lora.crypto.parameters import SECURITY_CAPS  # brings numba along, which is slow to import

    line = runs.iloc[0].to_dict() | {"runs": len(runs), "security_bits": runs["security_bits"].min()}
    for name, caps in SECURITY_CAPS.items():
        line[f"{name}_cap_log2_q"] = caps.get(line["largest_ring_size"], np.nan)
        line[f"{name}_margin_bits"] = line[f"{name}_cap_log2_q"] - line["largest_log2_q"]
    return line | {"run_ids": ids_of(runs)}
