"""Table of the parameters of every encrypted run, beside what they may be at 128 bits of security."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from private_lora.core.paths import ROOT
from private_lora.results.labels import bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import run_metric
from private_lora.results.sidecars import KINDS, read_sidecars

RECORDED = ROOT / "results" / "recorded"
SAME = ["model", "backend", "mask", "bits", "ring_size"]
MARGINS = ["classical_cap_log2_q", "classical_margin_bits", "quantum_cap_log2_q", "quantum_margin_bits"]
COLUMNS = [*SAME, "largest_log2_q", *MARGINS, "security_bits", "share_of_products", "runs", "basis", "run_ids"]


def security(data: Data) -> pd.DataFrame:
    """One line for each model, scheme, mask, bits and ring that was encrypted with, from the sidecars of the runs."""
    rows = pd.concat([data.convergence, data.loopback], ignore_index=True)
    encrypted = rows[(rows["metric"] == "largest_log2_q") & (rows["basis"] == "measured")]["run_id"]
    kept = _recorded() if len(encrypted) else {}
    groups = rows[rows["run_id"].isin(set(encrypted))].groupby(["run_id", "machine"], sort=False)
    found = pd.DataFrame([ring for _, run in groups for ring in _rings(data, run, kept)], columns=[*COLUMNS, "share"])
    lines = [_line(rings) for _, rings in found.groupby(SAME, sort=False)]
    table = in_order(pd.DataFrame(lines, columns=COLUMNS), SAME)
    table.attrs["notes"] = [
        "One line for each ring size (N) among the products of a model's runs, because margins are those of a ring. largest "
        "log2 q: of the products with this ring. cap: the largest log2 Q for 128 bits of security, by classical and by quantum "
        "estimates; margin: cap less log2 Q. A negative margin means fewer than 128 bits by that estimate. share of products: "
        "how many of a run's products have this ring.",
        "Under session masks, the classical cap is lowered when parameters are chosen, so that 128 bits are left in the proof "
        "for many secrets under one mask; the cap here is that of one secret.",
    ]
    return table


def _rings(data: Data, rows: pd.DataFrame, kept: dict[tuple[str, str], dict]) -> Iterator[dict]:
    """A line for each ring size of a run; none if its sidecar was not kept."""
    first = rows.iloc[0]
    layers = list(_layers(data, first["run_id"], first["machine"], kept))
    line = {name: first[name] for name in ("model", "backend")} | {"mask": json.loads(first["options"] or "{}").get("mask")}
    line |= {"bits": bits_label(first["activation_bits"], first["weight_bits"]), "basis": join_basis(rows["basis"])}
    line |= {"security_bits": run_metric(rows, "security_bits"), "run_ids": ids_of(rows)}
    for size in sorted({layer["ring_size"] for layer in layers}):
        moduli = [layer["log2_q"] for layer in layers if layer["ring_size"] == size]
        # Parameters under session masks say so; older ones know no other mask than a fresh one.
        mask = line["mask"] or layers[0].get("mask", "fresh")
        yield line | {"mask": mask, "ring_size": size, "largest_log2_q": max(moduli), "share": len(moduli) / len(layers)}


def _layers(data: Data, run_id: str, machine: str, kept: dict[tuple[str, str], dict]) -> Iterator[dict]:
    """Parameters of each product of a run: of this study's sidecar, or else of the record of that machine."""
    own = [data.root.parent / kind / run_id / "sidecar.json" for kind in KINDS]
    sidecar = next((json.loads(path.read_text()) for path in own if path.is_file()), kept.get((run_id, machine), {}))
    return (layer["parameters"] for layer in sidecar.get("layers", {}).values())


def _recorded() -> dict[tuple[str, str], dict]:
    """Sidecars of all records, by run and machine."""
    found = {}
    for path in sorted(RECORDED.glob("*/sidecars.jsonl")):
        for run_id, sidecar in read_sidecars(path).items():
            environment = sidecar.get("environment", {})
            found[run_id, f"{environment.get('processor')}, {environment.get('cores')} cores"] = sidecar
    return found


def _line(rings: pd.DataFrame) -> dict:
    from private_lora.crypto.parameters import SECURITY_CAPS  # brings numba along, which is slow to import

    line = rings.iloc[0].to_dict() | {"runs": len(rings), "largest_log2_q": rings["largest_log2_q"].max()}
    line |= {"share_of_products": rings["share"].max(), "security_bits": rings["security_bits"].min()}
    for name, caps in SECURITY_CAPS.items():
        line[f"{name}_cap_log2_q"] = caps[line["ring_size"]]
        line[f"{name}_margin_bits"] = line[f"{name}_cap_log2_q"] - line["largest_log2_q"]
    return line | {"run_ids": ids_of(rings)}
