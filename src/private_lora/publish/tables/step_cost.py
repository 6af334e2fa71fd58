"""Tables of what the cost model predicts: a step's time, bytes and money, and what it costs the client beside plaintext."""

from __future__ import annotations

import math

import pandas as pd

from private_lora.costs.inputs import PLAIN
from private_lora.costs.model import JOINT, PREDICTION
from private_lora.models.shapes import architecture_of
from private_lora.results.labels import in_order
from private_lora.results.reader import Data

TOKENS = 2048
MODELS = ("Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.1-70B")
SETTING = ["model", "backend", "options", "device", "machine", "bits", "tokens"]
STEP_COLUMNS = [
    *SETTING,
    "inputs",
    "network",
    "workers",
    "client_time_s",
    "server_time_s",
    "network_time_s",
    "step_time_s",
    "overlapped_step_time_s",
    "tokens_per_s",
    "upload_bytes_per_token",
    "download_bytes_per_token",
    "round_trips",
    "money_per_step",
    "money_per_million_tokens",
    "currency",
    "limited_by",
    "products_basis",
    "local_basis",
    "formula",
    "basis",
]
ECONOMICS_COLUMNS = [
    *SETTING[:1],
    "weights",
    *SETTING[1:],
    "inputs",
    "quantize_time_s",
    "encrypt_time_s",
    "decrypt_time_s",
    "plaintext_float32_time_s",
    "client_over_plaintext",
    "client_with_quantize_over_plaintext",
    "local_time_s",
    "client_share_of_step",
    "private_client_bytes",
    "clear_lora_bytes",
    "full_fine_tuning_bytes",
    "products_basis",
    "local_basis",
    "formula",
    "basis",
]
FLOAT32_BYTES, ADAM_COPIES = 4, 4  # a trained weight, its gradient and two moments


def predictions(data: Data, same: list[str] = SETTING) -> pd.DataFrame:
    """Predicted lines; where the `same` is predicted joint and apart, that of which more was measured, else joint."""
    lines = data.costs[data.costs["kind"] == PREDICTION]
    measured = (lines["products_basis"] == "measured").groupby([lines[c] for c in [*same, "inputs"]]).transform("sum")
    score = 2 * measured + (lines["inputs"] == JOINT)
    return lines[score == score.groupby([lines[c] for c in same]).transform("max")]


def step_cost(data: Data) -> pd.DataFrame:
    """Predicted seconds, bytes and money of a step by model, scheme, network and number of workers."""
    lines = predictions(data)
    lines = lines[lines["model"].isin(MODELS) & (lines["tokens"] == TOKENS)]
    table = _by_size(lines, ["machine", "backend", "options", "bandwidth_bits_per_s", "workers"])[STEP_COLUMNS]
    table.attrs["notes"] = [
        f"Steps of {TOKENS:,} tokens; other batches and other models are in costs.csv. Inputs joint or apart: of which more "
        "products were measured, otherwise joint. step time: client + server + network, one after the other, as implemented; "
        "overlapped: the largest of the three, a lower bound. limited by: the largest.",
        "products: measured where every shape was, at these tokens and on this machine; local: measured where this model's own "
        "work at the client was. The sum over all blocks is a prediction either way; formula says what was extrapolated.",
        "Networks, prices and workers are assumptions (section costs of the configuration). bytes: of the client's link, both "
        "ways. Client and workers are paid as long as the step lasts. plaintext_float32: the client computes by itself, in the "
        "memory that client_economics lists. glwe: that its accumulator holds a wide layer's sums is not checked here.",
    ]
    return table


def _by_size(lines: pd.DataFrame, then: list[str]) -> pd.DataFrame:
    """Lines by size of their model, then by the columns given."""
    sizes = {name: architecture_of(name).weights for name in set(lines["model"])}
    return in_order(lines.assign(weights=lines["model"].map(sizes)), ["weights", *then])


def economics(data: Data) -> pd.DataFrame:
    """One line per model, scheme and batch: the client's time under encryption over the plaintext product's."""
    lines = predictions(data)
    plain = lines[lines["backend"] == PLAIN]
    # What happens at the client does not depend on the network or on how many workers there are.
    schemes = lines[lines["backend"] != PLAIN].drop_duplicates([*SETTING, "inputs"])
    table = pd.DataFrame(
        [_economics(line, plain) for _, line in schemes.iterrows()], columns=[c for c in ECONOMICS_COLUMNS if c != "weights"]
    )
    return _by_size(table, ["tokens", "machine", "backend", "options"])[ECONOMICS_COLUMNS]


def _economics(line, plain: pd.DataFrame) -> dict:
    same = ["model", "machine", "device", "tokens", "inputs"]
    found = plain[(plain[same] == line[same]).all(axis=1)]
    product = found["matmul_time_s"].iloc[0] if len(found) else math.nan
    crypto = line["encrypt_time_s"] + line["decrypt_time_s"]
    columns = dict(line) | {"plaintext_float32_time_s": product, "client_over_plaintext": crypto / product}
    columns["client_with_quantize_over_plaintext"] = (crypto + line["quantize_time_s"]) / product
    columns["client_share_of_step"] = line["client_time_s"] / (line["client_time_s"] + line["matmul_time_s"])
    return columns | memory(line["model"], int(line["lora_rank"]))


def memory(model: str, rank: int) -> dict[str, int]:
    """Bytes of float32 weights, gradients and AdamW moments, activations not counted, in three ways of fine-tuning a model."""
    architecture = architecture_of(model)
    adapter = ADAM_COPIES * architecture.adapter_weights(rank)
    values = {"private_client_bytes": architecture.client_weights + adapter, "clear_lora_bytes": architecture.weights + adapter}
    values["full_fine_tuning_bytes"] = ADAM_COPIES * architecture.weights
    return {name: FLOAT32_BYTES * count for name, count in values.items()}


def client_economics(data: Data) -> pd.DataFrame:
    """By size of model: client time under encryption beside the plaintext product, and the memory that either needs."""
    table = economics(data)
    table = table[table["tokens"] == TOKENS].reset_index(drop=True)
    table.attrs["notes"] = [
        "Encrypt, decrypt and quantize: seconds of one step over all blocks; plaintext float32: the same products in torch on "
        "the same machine. Below 1, sending the products away saves the client work. local: everything else at the client, "
        "which is the same either way. client share of step: client / (client + one worker), without a network.",
        "Memory, extrapolated by arithmetic, float32, without activations: private client = 4 B x (embeddings, head, norms + 4 "
        "x adapter); LoRA in the clear = 4 B x (all weights + 4 x adapter); full fine-tuning = 4 B x 4 x all weights. The 4 "
        "are weight, gradient and AdamW's two moments.",
        *break_even(table),
    ]
    return table


def break_even(table: pd.DataFrame) -> list[str]:
    """A sentence for each scheme and machine: from which size on the client's time is below the plaintext product's."""
    notes = []
    known = table[table["client_over_plaintext"].notna()]
    for (backend, options, device, machine), lines in known.groupby(["backend", "options", "device", "machine"], sort=False):
        lines = lines.sort_values("weights")
        name = " ".join(part for part in (backend, options, "" if device == "cpu" else device) if part)
        where = f"{name}{f' on {machine}' if machine else ''}, encrypt + decrypt + quantize"
        notes.append(f"{where}: {_from_size(lines)}; the client's share of a step is {_range(lines['client_share_of_step'])}.")
    return notes


def _from_size(lines: pd.DataFrame) -> str:
    """From which model on, all larger ones included, the ratio is below 1."""
    ratios = lines["client_with_quantize_over_plaintext"]
    cheaper = ratios < 1
    largest = f"{ratios.iloc[-1]:.3g} of the plaintext product's time at {lines['model'].iloc[-1]}"
    if not cheaper.iloc[-1]:
        return f"not below the plaintext product at any size here ({largest})"
    first = lines.iloc[len(lines) - cheaper[::-1].cumprod().sum()]
    return f"below the plaintext product from {first['model']} on ({first['weights'] / 1e9:.3g} billion weights; {largest})"


def _range(shares: pd.Series) -> str:
    low, high = shares.min(), shares.max()
    return f"{low:.0%}" if math.isclose(low, high, abs_tol=0.005) else f"{low:.0%} to {high:.0%}"
