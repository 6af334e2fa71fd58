"""Table of one linear layer's latency by backend, shape and operation, beside the plaintext product."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.results.labels import ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import OK
from private_lora.results.schema import options_text

LAYER = [
    "run_id",
    "backend",
    "options",
    "device",
    "machine",
    "activation_bits",
    "weight_bits",
    "rows",
    "inputs",
    "outputs",
    "phase",
]
# Ratios over the product of a backend, with its options, that encrypts nothing.
RATIOS = {"median_over_plaintext_float": ("float", {}), "median_over_integer": ("integer", {})}
RATIOS["median_over_bf16"] = ("float", {"dtype": "bfloat16"})
COLUMNS = [
    "backend",
    "options",
    "device",
    "activation_bits",
    "weight_bits",
    "rows",
    "inputs",
    "outputs",
    "metric",
    "unit",
    "value_median",
    "value_min",
    "value_max",
    "per_row",
    "per_output_value",
    *RATIOS,
    "n_requested",
    "n_ok",
    "status",
    "basis",
    "run_ids",
]
SUMS = {
    "client_time_s": ("encrypt_time_s", "decrypt_time_s"),
    "total_time_s": ("encrypt_time_s", "matmul_time_s", "decrypt_time_s"),
}
METRIC_ORDER = [
    "encrypt_time_s",
    "matmul_time_s",
    "decrypt_time_s",
    "client_time_s",
    "total_time_s",
    "key_generation_time_s",
    "weight_setup_time_s",
    "upload_ciphertext_bytes",
    "download_ciphertext_bytes",
    "public_material_bytes",
    "peak_memory_bytes",
    "encrypted_matmuls",
    "security_bits",
    "accumulator_noise_std",
]


def layer_rows(data: Data) -> pd.DataFrame:
    """Latency rows, with client_time_s and total_time_s added for each repeat that has their operations."""
    rows = data.layer
    parts = [rows]
    for (_, repeat), group in rows.groupby(["run_id", "repeat"], sort=False):
        values = group[group["status"] == OK].groupby("metric")["value"].first()
        for name, stages in SUMS.items():
            if not set(stages) <= set(values.dropna().index):
                continue
            total = dict(group.iloc[0]) | {"metric": name, "unit": "s", "status": OK, "repeat": repeat}
            parts.append(pd.DataFrame([total | {"value": values[list(stages)].sum()}]))
    return pd.concat(parts, ignore_index=True)


@once
def latency_summary(data: Data) -> pd.DataFrame:
    """Median, smallest and largest value over the repeats of each layer and metric; per row and value."""
    lines = []
    for keys, group in layer_rows(data).groupby([*LAYER, "metric"], dropna=False, sort=False):
        values = group.loc[group["status"] == OK, "value"].dropna()
        line = dict(zip([*LAYER, "metric"], keys, strict=True))
        middle = values.median()
        line |= {"unit": group["unit"].iloc[0], "value_median": middle}
        line |= {"value_min": values.min(), "value_max": values.max()}
        # What is paid once per key or per weight does not shrink with the rows.
        line["per_row"] = middle / line["rows"] if line["phase"] == "forward" else np.nan
        line["per_output_value"] = line["per_row"] / line["outputs"]
        bad = sorted(set(group["status"]) - {OK})
        line |= {"n_requested": len(group), "n_ok": len(values), "status": ", ".join(bad) or OK}
        lines.append(line | {"basis": join_basis(group["basis"]), "run_ids": ids_of(group)})
    summary = pd.DataFrame(lines, columns=[*LAYER, "metric", *[c for c in COLUMNS if c not in (*LAYER, "metric")]])
    numeric = [
        "rows",
        "inputs",
        "outputs",
        "value_median",
        "value_min",
        "value_max",
        "per_row",
        "per_output_value",
    ]
    summary = summary.astype(dict.fromkeys([*numeric, "n_ok"], float))
    for ratio, how in RATIOS.items():
        plain = [_plaintext(summary, line, *how) for _, line in summary.iterrows()]
        medians = [np.nan if other is None else other["value_median"] for other in plain]
        summary[ratio] = summary["value_median"] / medians
        names = [None if other is None else other["run_id"] for other in plain]
        summary["run_ids"] = [ids_of(*pair) for pair in zip(summary["run_ids"], names, strict=True)]
    return summary


def _plaintext(summary: pd.DataFrame, line, backend: str, options: dict) -> pd.Series | None:
    """The plaintext product of the same shape on the same device and machine, beside which a time stands; None if not timed."""
    if line["phase"] != "forward" or not line["metric"].endswith("_time_s"):
        return None
    plain = summary[(summary["backend"] == backend) & (summary["options"] == options_text(options))]
    plain = plain[plain["metric"] == "matmul_time_s"]
    for column in ("device", "machine", "rows", "inputs", "outputs"):
        plain = plain[plain[column] == line[column]]
    same_run = plain[plain["run_id"] == line["run_id"]]
    plain = same_run if len(same_run) else plain
    return plain.iloc[0] if len(plain) else None


def layer(data: Data) -> pd.DataFrame:
    """Latency and bytes of one linear layer by backend, shape and operation; ratios to plaintext products."""
    table = latency_summary(data)
    nothing_sent = table["metric"].str.endswith("_bytes") & (table["value_median"] == 0)
    table = table[table["metric"].isin(METRIC_ORDER) & ~nothing_sent].copy()
    table["rank"] = table["metric"].map(METRIC_ORDER.index)
    table = in_order(table, ["inputs", "outputs", "rows", "backend", "device", "activation_bits", "rank"])[COLUMNS]
    table.attrs["notes"] = [
        "Median [smallest, largest] over the repeats. client = encrypt + decrypt, total = encrypt + matmul + "
        "decrypt, summed within each repeat. per output value: median / (rows x outputs).",
        "over plaintext float, integer, bf16: over the product in float32, of exact integers (int8 at 8 bits) and in bfloat16, "
        "of the same shape on the same device; empty where it was not measured. Every backend is a process of its own; those "
        "of `block_latency` take turns in one.",
    ]
    return table
