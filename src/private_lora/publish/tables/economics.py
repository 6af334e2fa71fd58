"""Table of what a private step costs the client beside the plaintext product: predicted, and measured where it was."""

from __future__ import annotations

import math

import pandas as pd

from private_lora.costs.inputs import PLAIN, Scheme, schemes_of
from private_lora.publish.tables.full_step import full_steps
from private_lora.publish.tables.step_cost import (
    PLAINTEXT,
    SETTING,
    by_size,
    memory,
    plaintext_products,
    predictions,
    step_tokens,
)
from private_lora.results.labels import CALLS_NOTE, ids_of
from private_lora.results.reader import Data

TIMES = [f"plaintext_{name}_time_s" for name in PLAINTEXT]
RATIOS = [f"client{extra}_over_{name}" for extra in ("", "_with_quantize") for name in PLAINTEXT]
WITH_QUANTIZE = "client_with_quantize_over_float32"
MEASURED, ERROR = f"measured_{WITH_QUANTIZE}", "prediction_error_percent"
MEASURED_INTEGER = "measured_client_with_quantize_over_integer"
COLUMNS = [
    "model",
    "weights",
    *SETTING[1:],
    "inputs",
    "quantize_time_s",
    "encrypt_time_s",
    "decrypt_time_s",
    *TIMES,
    *RATIOS,
    MEASURED,
    ERROR,
    MEASURED_INTEGER,
    "measured_basis",
    "local_time_s",
    "client_share_of_step",
    "private_client_bytes",
    "clear_lora_bytes",
    "full_fine_tuning_bytes",
    "products_basis",
    "local_basis",
    "formula",
    "basis",
    "run_ids",
]


def economics(data: Data) -> pd.DataFrame:
    """One line per model, scheme and batch: the client's time under encryption over the plaintext product's."""
    lines = predictions(data)
    # What happens at the client does not depend on the network or on how many workers there are.
    schemes = lines[lines["backend"] != PLAIN].drop_duplicates([*SETTING, "inputs"])
    plain = schemes_of(data.block_of_all_machines, list(PLAINTEXT.values()))
    steps = full_steps(data)
    steps = steps[steps["blocks"] == steps["model_blocks"]]
    options = {(s.backend, s.options): s.backend_options for s in schemes_of(data.block_of_all_machines)}
    named = [options[line["backend"], line["options"]] for _, line in schemes.iterrows()]
    found = [_line(line, plain, steps) for _, line in schemes.assign(backend_options=named).iterrows()]
    table = pd.DataFrame(found, columns=[c for c in COLUMNS if c != "weights"])
    return by_size(table, ["tokens", "machine", "backend", "options"])[COLUMNS]


def _line(line, plain: list[Scheme], steps: pd.DataFrame) -> dict:
    crypto = line["encrypt_time_s"] + line["decrypt_time_s"]
    columns = dict(line)
    for name, backend in PLAINTEXT.items():
        seconds, ids = plaintext_products(line, plain, backend)
        columns |= {f"plaintext_{name}_time_s": seconds, f"client_over_{name}": crypto / seconds}
        columns[f"client_with_quantize_over_{name}"] = (crypto + line["quantize_time_s"]) / seconds
        columns["run_ids"] = ids_of(columns["run_ids"], ids)
    columns["client_share_of_step"] = line["client_time_s"] / (line["client_time_s"] + line["matmul_time_s"])
    columns |= _measured(columns, steps)
    return columns | memory(line["model"], int(line["lora_rank"]))


def _measured(columns: dict, steps: pd.DataFrame) -> dict:
    """The client's time over the plaintext product in a measured whole step of the same setting; nothing without one."""
    same = ["machine", "device", "tokens", "inputs"]
    steps = steps[(steps["architecture"] == columns["model"]) & (steps[same] == pd.Series(columns)[same]).all(axis=1)]
    of_scheme = (steps["backend"] == columns["backend"]) & (steps["options"] == columns["backend_options"])
    mine = steps[of_scheme & (steps["bits"] == columns["bits"])]
    if not len(mine):
        return {}
    client = mine.iloc[0][["quantize_s", "encrypt_s", "decrypt_s"]].sum()
    clear = steps[steps["options"] == ""]
    float32, integer = (clear[clear["backend"] == name] for name in ("float", "integer"))
    found = {"measured_basis": mine.iloc[0]["basis"], "run_ids": ids_of(columns["run_ids"], mine.iloc[0])}
    if len(float32):
        found |= {MEASURED: (ratio := client / float32.iloc[0]["server_s"]), ERROR: 100 * (columns[WITH_QUANTIZE] / ratio - 1)}
    if len(integer):
        found[MEASURED_INTEGER] = client / integer.iloc[0]["server_s"]
    return found if len(float32) or len(integer) else {}


def client_economics(data: Data) -> pd.DataFrame:
    """By size of model: client time under encryption beside the plaintext product, and the memory that either needs."""
    table = economics(data)
    table = table[table["tokens"] == step_tokens(data.costs)].reset_index(drop=True)
    table.attrs["notes"] = [
        "Encrypt, decrypt and quantize: predicted seconds of one step over all blocks; plaintext: the same products in torch "
        "on the same machine, in the type named (bf16 rounds; empty: not measured). Below 1, sending the products away saves "
        "the client work. local: everything else at the client, which is the same either way. client share of step: client / "
        f"(client + one worker), without a network. {CALLS_NOTE}",
        "measured: quantize + encrypt + decrypt of a whole step that was run, over the products of the same step in float32, "
        "or with exact integers, with the same calls on the same machine; error: the prediction over that, less 100 %. Where "
        "there is a measured number, it is the one that counts.",
        "Memory, extrapolated by arithmetic, float32, without activations: private client = 4 B x (embeddings, head, norms + 4 "
        "x adapter); LoRA in the clear = 4 B x (all weights + 4 x adapter); full fine-tuning = 4 B x 4 x all weights. The 4 "
        "are weight, gradient and AdamW's two moments.",
        *break_even(table),
    ]
    return table


def break_even(table: pd.DataFrame) -> list[str]:
    """A sentence for each scheme and machine: from which size on the client's time is below the plaintext product's."""
    notes = []
    known = table[table["client_over_float32"].notna()]
    for (backend, options, device, machine), lines in known.groupby(["backend", "options", "device", "machine"], sort=False):
        lines = lines.sort_values("weights")
        name = " ".join(part for part in (backend, options, "" if device == "cpu" else device) if part)
        where = f"{name}{f' on {machine}' if machine else ''}, encrypt + decrypt + quantize"
        notes.append(f"{where}: {_from_size(lines)}; the client's share of a step is {_range(lines['client_share_of_step'])}.")
    return notes


def _from_size(lines: pd.DataFrame) -> str:
    """From which model on, all larger ones included, the ratio is below 1; a measured ratio counts before a predicted one."""
    ratios = lines[MEASURED].astype(float).fillna(lines[WITH_QUANTIZE])
    kinds = ["measured" if known else "predicted" for known in lines[MEASURED].notna()]
    cheaper = ratios < 1
    largest = f"{ratios.iloc[-1]:.3g} of the float32 product's time at {lines['model'].iloc[-1]}, {kinds[-1]}"
    if not cheaper.iloc[-1]:
        return f"not below the float32 product at any size here ({largest})"
    place = len(lines) - cheaper[::-1].cumprod().sum()
    first = lines.iloc[place]
    there = f"{first['weights'] / 1e9:.3g} billion weights: {ratios.iloc[place]:.3g} of it, {kinds[place]}"
    return f"below the float32 product from {first['model']} on ({there}; {largest})"


def _range(shares: pd.Series) -> str:
    low, high = shares.min(), shares.max()
    return f"{low:.0%}" if math.isclose(low, high, abs_tol=0.005) else f"{low:.0%} to {high:.0%}"
