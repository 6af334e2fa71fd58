"""Table of what the cost model predicts: a step's time, bytes and money; and which of its lines are shown."""

from __future__ import annotations

import math

import pandas as pd

from private_lora.costs.inputs import PLAIN, Scheme, schemes_of
from private_lora.costs.model import IN_PROCESS, JOINT, PREDICTION, VALIDATION, products_of
from private_lora.costs.predict import product_sums
from private_lora.models.shapes import architecture_of
from private_lora.results.labels import CALLS_NOTE, ids_of, in_order
from private_lora.results.reader import Data

SETTING = ["model", "backend", "options", "device", "machine", "bits", "tokens"]
# Plaintext products beside which times stand, by their name in columns.
PLAINTEXT = {"float32": PLAIN, "float32_onednn": "plaintext_float32_onednn", "int8": "plaintext_int8", "bf16": "plaintext_bf16"}
RATIOS = {f"step_time_over_{name}": name for name in PLAINTEXT}
STEP_COLUMNS = [
    *SETTING,
    "inputs",
    "network",
    "arrangement",
    "workers",
    "worker_weights_bytes",
    "client_time_s",
    "server_time_s",
    "network_time_s",
    "handling_time_s",
    "step_time_s",
    "overlapped_step_time_s",
    *RATIOS,
    "tokens_per_s",
    "upload_bytes_per_token",
    "download_bytes_per_token",
    "remote_calls_per_step",
    "money_per_step",
    "money_per_million_tokens",
    "currency",
    "limited_by",
    "products_basis",
    "local_basis",
    "formula",
    "basis",
    "run_ids",
]
FLOAT32_BYTES, ADAM_COPIES = 4, 4  # a trained weight, its gradient and two moments


def predictions(data: Data, same: list[str] = SETTING) -> pd.DataFrame:
    """Predicted lines; where the `same` is predicted joint and apart, that of which more was measured, else joint."""
    lines = data.costs[data.costs["kind"] == PREDICTION]
    measured = (lines["products_basis"] == "measured").groupby([lines[c] for c in [*same, "inputs"]]).transform("sum")
    score = 2 * measured + (lines["inputs"] == JOINT)
    return lines[score == score.groupby([lines[c] for c in same]).transform("max")]


def step_tokens(costs: pd.DataFrame) -> float:
    """The tokens a step at which predictions are shown: those of most measured whole steps, else the most predicted at all.

    NaN where nothing was predicted.
    """
    predicted, steps = costs.loc[costs["kind"] == PREDICTION, "tokens"], _whole_steps(costs)
    measured = steps.loc[steps["tokens"].isin(predicted), "tokens"]
    return measured.mode().max() if len(measured) else predicted.max()


def _whole_steps(costs: pd.DataFrame) -> pd.DataFrame:
    """Predictions of measured steps in one process."""
    return costs[(costs["kind"] == VALIDATION) & (costs["network"] == IN_PROCESS)]


def shown_model(costs: pd.DataFrame) -> str:
    """The model of the figures: the largest predicted one of which a whole step was measured, else with measured products.

    Else the largest predicted; empty where nothing was predicted.
    """
    predicted = costs[costs["kind"] == PREDICTION]
    steps = set(_whole_steps(costs)["model"]) & set(predicted["model"])
    products = set(predicted.loc[predicted["products_basis"] == "measured", "model"])
    found = steps or products or set(predicted["model"])
    return max(found, key=lambda name: architecture_of(name).weights, default="")


def step_cost(data: Data) -> pd.DataFrame:
    """Predicted seconds, bytes and money of a step by model, scheme, network and arrangement of workers."""
    tokens = step_tokens(data.costs)
    lines = predictions(data).rename(columns={"round_trips": "remote_calls_per_step"})
    lines = with_ratios(lines[lines["tokens"] == tokens], data)
    table = by_size(lines, ["machine", "backend", "options", "bandwidth_bits_per_s", "workers", "shards"])[STEP_COLUMNS]
    table.attrs["notes"] = [
        f"{'No step is predicted.' if pd.isna(tokens) else f'Steps of {tokens:,.0f} tokens'}, which most whole steps were "
        "measured at; all models of the configuration; other batches are in costs.csv. "
        f"{CALLS_NOTE} Of the two, the one of which more products were "
        "measured, otherwise joint; remote calls per step tell on how many messages the bytes depend.",
        "step time: the schedule of the client as it is implemented: products one after the other, so that shards (workers "
        "with different blocks) make each worker smaller (worker weights: two int8 copies of its blocks) and no step faster, "
        "while all are paid; of a product, questions overlap and replicas share them. With one question: client + server + "
        "network + handling. server: of the worker with most rows; handling: serialization, TLS and checks of answers, from "
        "runs through workers. overlapped: the largest of client, server and either direction of the network, a lower bound.",
        "over float32, int8, bf16: over a predicted step that the client takes alone, its own work and plaintext products of "
        "that type on this machine; empty where those were not measured.",
        "products: measured where every shape was, at these tokens and on this machine; local: measured where this model's own "
        "work at the client was. The sum over all blocks is a prediction either way; formula says what was extrapolated.",
        "Networks, prices and arrangements are assumptions (section costs of the configuration). bytes: of the client's link, "
        "both ways. Client and workers are paid while the step lasts. plaintext_float32: the client computes by itself, in "
        "the memory that client_economics lists. glwe: that its accumulator holds a wide layer's sums is not checked here.",
    ]
    return table


def with_ratios(lines: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Predicted steps over what the client would take alone: its own work, and the products in plaintext of each type."""
    plain = schemes_of(data.block_of_all_machines, list(PLAINTEXT.values()))
    lines = lines.copy()
    for ratio, name in RATIOS.items():
        found = [plaintext_products(line, plain, PLAINTEXT[name]) for _, line in lines.iterrows()]
        lines[ratio] = lines["step_time_s"] / (lines["local_time_s"] + [seconds for seconds, _ in found])
        lines["run_ids"] = [ids_of(*pair) for pair in zip(lines["run_ids"], [ids for _, ids in found], strict=True)]
    return lines


def plaintext_products(line, schemes: list[Scheme], backend: str) -> tuple[float, str]:
    """Seconds of all products of the line's step in plaintext, and ids of their runs; NaN where they were not measured."""
    wanted = backend, line["device"], line["machine"]
    shapes = next((s.at(int(line["tokens"])) for s in schemes if (s.backend, s.device, s.machine) == wanted), None)
    architecture = architecture_of(line["model"])
    sums = product_sums(products_of(architecture, line["inputs"], architecture.blocks), shapes)
    return (math.nan, "") if sums is None else (sums["matmul_time_s"], sums["run_ids"])


def by_size(lines: pd.DataFrame, then: list[str]) -> pd.DataFrame:
    """Lines by size of their model, then by the columns given."""
    sizes = {name: architecture_of(name).weights for name in set(lines["model"])}
    return in_order(lines.assign(weights=lines["model"].map(sizes)), ["weights", *then])


def memory(model: str, rank: int) -> dict[str, int]:
    """Bytes of float32 weights, gradients and AdamW moments, activations not counted, in three ways of fine-tuning a model."""
    architecture = architecture_of(model)
    adapter = ADAM_COPIES * architecture.adapter_weights(rank)
    values = {"private_client_bytes": architecture.client_weights + adapter, "clear_lora_bytes": architecture.weights + adapter}
    values["full_fine_tuning_bytes"] = ADAM_COPIES * architecture.weights
    return {name: FLOAT32_BYTES * count for name, count in values.items()}
