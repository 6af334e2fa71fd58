"""Table of the parameters of every encrypted run, and the bits of security of each in several cost models."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from private_lora.core.paths import ROOT
from private_lora.results.labels import bits_label, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.sidecars import KINDS, machine_of, read_sidecars

RECORDED = ROOT / "results" / "recorded"
SAME = ["model", "backend", "mask", "bits", "ring_size"]
MODELS = ["matzov", "adps16", "chaloy21_quantum"]
BITS = [*(f"{name}_bits" for name in MODELS), *(f"{name}_bits_of_proof" for name in MODELS)]
COLUMNS = [*SAME, "largest_log2_q", "decided_by", *BITS, "share_of_products", "runs", "basis", "run_ids"]


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
        "One line for each ring size (N) among the products of a model's runs. largest log2 q: of the products with this ring, "
        "which has the fewest bits. bits: log2 of operations of the cheapest attack in a cost model, from the table of the "
        "lattice-estimator or, where that has no row, our own estimator. share of products: how many of a run's products have "
        "this ring.",
        "bits of proof: what is left after a hybrid over all secrets that one mask may have; under fresh masks, of one secret. "
        "decided by: the cost model whose 128 bits the parameters keep; records older than these estimates were chosen by "
        "caps on log2 Q that other authors published (classical, quantum).",
    ]
    return table


def _rings(data: Data, rows: pd.DataFrame, kept: dict[tuple[str, str], dict]) -> Iterator[dict]:
    """A line for each ring size of a run; none if its sidecar was not kept."""
    first = rows.iloc[0]
    layers = list(_layers(data, first["run_id"], first["machine"], kept))
    line = {name: first[name] for name in ("model", "backend")} | {"mask": json.loads(first["options"] or "{}").get("mask")}
    line |= {"bits": bits_label(first["activation_bits"], first["weight_bits"]), "basis": join_basis(rows["basis"])}
    line |= {"run_ids": ids_of(rows)}
    for size in sorted({layer["ring_size"] for layer in layers}):
        moduli = [layer["log2_q"] for layer in layers if layer["ring_size"] == size]
        # Parameters under session masks say so; older ones know no other mask than a fresh one.
        mask = line["mask"] or layers[0].get("mask", "fresh")
        decided = ", ".join(sorted({layer.get("table", "not recorded") for layer in layers if layer["ring_size"] == size}))
        yield line | {
            "decided_by": decided,
            "mask": mask,
            "ring_size": size,
            "largest_log2_q": max(moduli),
            "share": len(moduli) / len(layers),
        }


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
            found[run_id, machine_of(sidecar.get("environment", {}))] = sidecar
    return found


def _line(rings: pd.DataFrame) -> dict:
    from private_lora.crypto.security import estimate  # brings numba along, which is slow to import
    from private_lora.crypto.session_parameters import SECRETS_LOG2

    line = rings.iloc[0].to_dict() | {"runs": len(rings), "largest_log2_q": rings["largest_log2_q"].max()}
    line |= {"share_of_products": rings["share"].max(), "decided_by": ", ".join(sorted(set(rings["decided_by"])))}
    hybrid = SECRETS_LOG2 if line["mask"] == "session" else 0
    for name in MODELS:
        bits = estimate(name, int(line["ring_size"]), int(line["largest_log2_q"])).bits
        line |= {f"{name}_bits": bits, f"{name}_bits_of_proof": bits - hybrid}
    return line | {"run_ids": ids_of(rings)}
