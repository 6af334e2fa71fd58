"""Tables of a whole block: latency per token beside the plaintext product, and bytes per token beside `glwe`'s."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from private_lora.costs.model import APART, JOINT
from private_lora.models.shapes import architecture_of
from private_lora.publish.shared import once
from private_lora.results.labels import CALLS_NOTE, ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.specs.backends import PLAINTEXT
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS

GLWE = "glwe"
# Values that one of the scheme's ciphertexts holds, on the way up and down: its polynomial size.
GLWE_CHUNK = 2048
STAGES = {"encrypt": ("encrypt_time_s",), "server": ("matmul_time_s",), "decrypt": ("decrypt_time_s",)}
SUMS = STAGES | {"client": ("encrypt_time_s", "decrypt_time_s")}
RATIOS = {f"{side}_over_{name.removeprefix('plaintext_')}": (side, name) for side in ("server", "client") for name in PLAINTEXT}
SPREAD = ("median", "min", "max")
RUN = ["run_id", "machine"]
SETTING = ["model", "backend", "options", "device", "machine", "activation_bits", "weight_bits", "tokens", "layers", "inputs"]
LATENCY_COLUMNS = [
    *SETTING,
    *[f"{stage}_ms_per_token" for stage in SUMS],
    *[f"{ratio}_{kind}" for ratio in RATIOS for kind in SPREAD],
    "float32_over_int8",
    "glwe_server_time_over_this",
    "products",
    "repeats",
    "samples",
    "threads",
    "checked_values",
    "mismatches",
    "basis",
    "run_ids",
]
BYTES_COLUMNS = [
    "model",
    "blocks",
    "backend",
    "options",
    "activation_bits",
    "weight_bits",
    "tokens",
    "inputs",
    "remote_calls",
    "up_bytes_per_token",
    "down_bytes_per_token",
    "total_bytes_per_token",
    "total_over_glwe",
    "basis",
    "run_ids",
]


@once
def block_summary(data: Data) -> pd.DataFrame:
    """One line per run and backend, times in milliseconds per token, summed over the layers and directions measured.

    Ratios are taken within each repeat of one run on one machine; `whole` says whether all layers of the model's block are in
    the sum.
    """
    rows = data.block
    products = rows[rows["phase"].isin(["forward", "backward"])]
    lines = []
    for (_, _, backend, options), group in products.groupby([*RUN, "backend", "options"], sort=False):
        line = _setting(group) | {"backend": backend, "options": options, "basis": join_basis(group["basis"])}
        line["whole"] = _members(group) == _members_of_block(products, line["model"])
        line["layers"] = "all" if line["whole"] else line["layers"]
        of_run = products[(products[RUN] == pd.Series(line)[RUN]).all(axis=1)]
        line |= _times(group, of_run, line["tokens"]) | _samples(group)
        line |= _counted(rows, line)
        lines.append(line)
    table = pd.DataFrame(lines, columns=[*LATENCY_COLUMNS, "run_id", "whole"])
    beside = [_glwe_over(products, line) for _, line in table.iterrows()]
    table["glwe_server_time_over_this"] = [ratio for ratio, _ in beside]
    table["run_ids"] = [ids_of(name, other) for name, (_, other) in zip(table["run_id"], beside, strict=True)]
    return in_order(table, ["model", "device", "machine", "inputs", "tokens", "backend", "options", "activation_bits"])


def _setting(group: pd.DataFrame) -> dict:
    """What was measured; `inputs`: joint where layers are one product, apart otherwise."""
    first, layers = group.iloc[0], list(dict.fromkeys(group["layer"]))
    line = {c: first[c] for c in (*RUN, "model", "device", "activation_bits", "weight_bits", "tokens")}
    if first["backend"] in PLAINTEXT and first["backend"] != "plaintext_int8":
        line |= {"activation_bits": np.nan, "weight_bits": np.nan}
    return line | {"layers": ", ".join(layers), "inputs": JOINT if any("+" in name for name in layers) else APART}


def _samples(group: pd.DataFrame) -> dict:
    """How many products the line adds up, and how many measurements it is made of: products of one shape share one."""
    products = len(group[["layer", "phase"]].drop_duplicates())
    return {"products": products, "repeats": group["repeat"].nunique(), "samples": group["sample"].nunique()}


def _members(group: pd.DataFrame) -> set[str]:
    """Names of the layers, those of joint products one by one."""
    return {name for layer in set(group["layer"]) for name in layer.split("+")}


def _members_of_block(products: pd.DataFrame, model: str) -> set[str]:
    """Names of all layers of the model's block; of a user's own model, whose files may be gone, all that were measured."""
    known = model in (*ARCHITECTURES, *BUILT_IN_MODELS)
    return set(architecture_of(model).layers) if known else _members(products[products["model"] == model])


def _by_repeat(group: pd.DataFrame, metrics: tuple[str, ...]) -> pd.Series:
    """Sum of the metrics over layers and directions, by repeat; empty if one of them is not there."""
    if not set(metrics) <= set(group["metric"]):
        return pd.Series(dtype=float)
    return group[group["metric"].isin(metrics)].groupby("repeat")["value"].sum(min_count=1)


def _times(group: pd.DataFrame, of_run: pd.DataFrame, tokens: float) -> dict:
    sums = {name: _by_repeat(group, metrics) for name, metrics in SUMS.items()}
    line = {f"{name}_ms_per_token": 1e3 * s.median() / tokens if len(s) else np.nan for name, s in sums.items()}
    for ratio, (side, plaintext) in RATIOS.items():
        within = sums[side] / _by_repeat(of_run[of_run["backend"] == plaintext], STAGES["server"])
        within = within.dropna()
        line |= {f"{ratio}_{kind}": getattr(within, kind)() if len(within) else np.nan for kind in SPREAD}
    names = ("plaintext_float32", "plaintext_int8")
    float32, int8 = (_by_repeat(of_run[of_run["backend"] == name], STAGES["server"]) for name in names)
    within = (float32 / int8).dropna()
    return line | {"float32_over_int8": within.median() if len(within) else np.nan}


def _counted(rows: pd.DataFrame, line: dict) -> dict:
    """What the run counted once: for this backend, and threads for the process."""
    counted = rows[(rows[RUN] == pd.Series(line)[RUN]).all(axis=1) & (rows["phase"] == "run")]
    of_backend = counted[(counted["backend"] == line["backend"]) & (counted["options"] == line["options"])]
    values = of_backend.set_index("metric")["value"]
    threads = counted.loc[counted["metric"] == "torch_threads", "value"]
    found = {name: values.get(name, np.nan) for name in ("checked_values", "mismatches")}
    return found | {"threads": threads.iloc[0] if len(threads) else np.nan}


def _glwe_over(products: pd.DataFrame, line) -> tuple[float, str]:
    """Server time per token of `glwe` over this line's, on the layers that glwe was measured on; NaN if they do not match.

    Both on the same model and machine, in the same arrangement; `glwe` on its GPU is another machine than its CPU. With it the
    ids of glwe's runs.
    """
    glwe = products[(products["backend"] == GLWE) & (products[["model", "machine"]] == line[["model", "machine"]]).all(axis=1)]
    ours = products[(products[RUN] == line[RUN]).all(axis=1) & (products["backend"] == line["backend"])]
    ours = ours[(ours["options"] == line["options"]) & (ours["metric"] == STAGES["server"][0])]
    members = _members(glwe)
    ours = ours[[set(layer.split("+")) <= members for layer in ours["layer"]]]
    if line["backend"] == GLWE or not len(glwe) or set(ours["layer"]) != set(glwe["layer"]):
        return np.nan, ""
    runs = [run for _, run in glwe.groupby("run_id", sort=False) if _members(run) == members]
    theirs = [_by_repeat(run, STAGES["server"]).median() / run["tokens"].iloc[0] for run in runs]
    if not theirs:
        return np.nan, ""
    ratio = float(np.median(theirs)) * line["tokens"] / _by_repeat(ours, STAGES["server"]).median()
    return ratio, ids_of(*runs)


def block_latency(data: Data) -> pd.DataFrame:
    """Times per token of a block by operation, tokens and backend, with ratios over plaintext products of the same process."""
    table = block_summary(data)[LATENCY_COLUMNS]
    table.attrs["notes"] = [
        "Sum over the layers listed, forward and backward. Times: median over repeats, per token (row of the product). Ratios: "
        "median [smallest, largest] over repeats of the ratio within a repeat, all backends in one process. server: the "
        "product alone, with the expansion of masks; client: encrypt + decrypt.",
        "plaintext: torch's products of the same integers in that type; bf16 is inexact, every answer is rounded to 8 "
        "significant bits. On a machine whose instructions have neither VNNI nor AMX, int8 is the exact product in float32 or "
        "float64, faster there than in int8; without BF16 or AMX, torch makes bf16 of float32. In every repeat all backends "
        "take turns in an order drawn at random; older records, whose sidecars have no `order`, kept one order.",
        "glwe is measured on as many rows as `tokens` says, on the layers listed; glwe server time over "
        "this: its time per token over that of the line, on those layers and the same machine.",
        f"{CALLS_NOTE} Every ratio is between products of the same arrangement; glwe was measured with each layer a call. "
        "float32 over int8: plaintext float32 time over int8's. An empty plaintext column: not measured in that run.",
        "products: layers x directions that the line adds up. samples: measurements behind them over all repeats; products of "
        "one shape share one, so that k and v, or gate and up, are one measurement.",
    ]
    return table


@once
def block_bytes(data: Data) -> pd.DataFrame:
    """Ciphertext bytes per token of a whole model's layers, forward and backward, by backend and tokens, beside `glwe`."""
    products = data.block[data.block["phase"].isin(["forward", "backward"])]
    lines = []
    for model, rows in products.groupby("model", sort=False):
        counts = data.block[(data.block["model"] == model) & (data.block["metric"] == "blocks")]["value"]
        blocks = counts.iloc[0] if len(counts) else np.nan
        sent = rows[rows["metric"].str.endswith("_ciphertext_bytes") & (rows["value"] > 0)]
        lines += [line | {"model": model, "blocks": blocks} for line in _sizes(sent, rows, blocks)]
    table = pd.DataFrame(lines, columns=BYTES_COLUMNS)
    # The same messages on another machine are as long.
    table = table.drop_duplicates([c for c in BYTES_COLUMNS if c != "run_ids"], ignore_index=True)
    beside = [_of_glwe(table, line) for _, line in table.iterrows()]
    table["total_over_glwe"] = [
        line["total_bytes_per_token"] / glwe["total_bytes_per_token"].median()
        for (_, line), glwe in zip(table.iterrows(), beside, strict=True)
    ]
    table["run_ids"] = [ids_of(line, glwe) for (_, line), glwe in zip(table.iterrows(), beside, strict=True)]
    table = in_order(table, ["model", "inputs", "tokens", "backend", "options", "activation_bits"])
    table.attrs["notes"] = [
        "Lengths of serialized messages, headers included, divided by the tokens of the batch, times the blocks of the model; "
        "every layer forward and backward, the first block too: remote calls counts them, one for each product of a step. A "
        "training step sends a little less, because nothing wants the gradient of the first block's input.",
        f"{CALLS_NOTE} The total stands over that of glwe in the same arrangement.",
        f"glwe: one ciphertext for each {GLWE_CHUNK} values of a row, up and down. What was not measured is extrapolated: "
        f"(bytes of a measured row of {GLWE_CHUNK} values) x ceil(values / {GLWE_CHUNK}). Its evaluation key, sent once, is "
        "not counted.",
    ]
    return table


def _blocks_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By arrangement of the calls the products of a whole block (layer, phase, inputs, outputs), where a run measured it."""
    members, found = _members_of_block(rows, rows["model"].iloc[0]), {}
    for _, run in rows.groupby(RUN, sort=False):
        if _members(run) == members:
            found.setdefault(_setting(run)["inputs"], run.drop_duplicates(["layer", "phase"]))
    return found


def _sizes(sent: pd.DataFrame, rows: pd.DataFrame, blocks: float) -> list[dict]:
    """A line for each run and backend that sent ciphertexts for the whole block of the rows' model.

    `glwe` has one for every run and known arrangement of the calls.
    """
    lines, known = [], _blocks_of(rows)
    members = _members_of_block(rows, rows["model"].iloc[0])
    for (_, _, backend, options), group in sent.groupby([*RUN, "backend", "options"], sort=False):
        line = _setting(group) | {"backend": backend, "options": options, "basis": join_basis(group["basis"])}
        line["run_ids"] = ids_of(group)
        first = group[group["repeat"] == group["repeat"].min()]
        if _members(group) == members:
            lines.append(line | _per_token(first.groupby("metric")["value"].sum() / line["tokens"], first, blocks))
        for inputs, block in known.items() if backend == GLWE else ():
            if _members(group) == members and inputs == line["inputs"]:
                continue
            basis = join_basis([*group["basis"], "extrapolated"])
            lines.append(line | {"inputs": inputs, "basis": basis} | _per_token(_glwe_sizes(first, block), block, blocks))
    return lines


def _per_token(sizes, block: pd.DataFrame, blocks: float) -> dict:
    """Columns of a line from bytes per token of one block and the products in it."""
    up, down = (sizes[name] * blocks for name in ("upload_ciphertext_bytes", "download_ciphertext_bytes"))
    calls = len(block.drop_duplicates(["layer", "phase"])) * blocks
    line = {"remote_calls": calls, "up_bytes_per_token": up, "down_bytes_per_token": down}
    return line | {"total_bytes_per_token": up + down}


def _glwe_sizes(measured: pd.DataFrame, block: pd.DataFrame) -> dict[str, float]:
    """Bytes per token and block: measured where the product was, else full ciphertexts times how many a row needs."""
    sizes = {}
    for metric, side in (("upload_ciphertext_bytes", "inputs"), ("download_ciphertext_bytes", "outputs")):
        rows = measured[measured["metric"] == metric]
        per_row = rows["value"] / rows["tokens"]
        known = dict(zip(rows[side], per_row, strict=True))
        chunks = np.ceil(rows[side] / GLWE_CHUNK)
        # A full ciphertext where one was measured; one with fewer values may be smaller.
        full = (per_row / chunks)[rows[side] % GLWE_CHUNK == 0]
        one = full.median() if len(full) else (per_row / chunks).max()
        sizes[metric] = sum(known.get(size, one * math.ceil(size / GLWE_CHUNK)) for size in block[side])
    return sizes


def _of_glwe(table: pd.DataFrame, line) -> pd.DataFrame:
    """The lines of `glwe` for the same model and arrangement of the calls."""
    return table[(table["backend"] == GLWE) & (table[["model", "inputs"]] == line[["model", "inputs"]]).all(axis=1)]
