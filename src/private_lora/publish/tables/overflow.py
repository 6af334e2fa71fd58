"""Tables of the stage overflow: outputs that wrapped around in the bits that the published scheme keeps, and the loss then."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.results.labels import ids_of, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, run_metric
from private_lora.specs.backends import BACKENDS

STAGE, PUBLISHED_ITEM = "overflow", "code_fhe_batch"
KEPT_BITS = BACKENDS["glwe_simulated"].result_bits
# By the option `overflow` of the simulation: what the activations in a sum are.
SUMS = {"wrap": "signed", "wrap_unsigned": "unsigned"}
PHASES = ("forward", "backward")
ORDER = ["model", "dataset", "quantizer", "activation_bits", "backend", "sums"]
SETTING = ["model", "dataset", "variant", "quantizer", "activation_bits", "backend", "sums"]
COLUMNS = [
    *SETTING,
    "requested_steps",
    "steps",
    "worst_case_bits",
    "products_that_could_wrap",
    *(f"wrapped_{phase}_percent" for phase in PHASES),
    "initial_loss",
    "initial_loss_over_integer",
    "eval_loss",
    "eval_loss_over_integer",
    "status",
    "source",
    "certainty",
    "basis",
    "run_ids",
]
LAYER_COLUMNS = [
    *SETTING,
    "layer",
    "phase",
    "inputs",
    "shape_bits",
    "worst_case_bits",
    "checked_outputs",
    "wrapped_outputs",
    "wrapped_percent",
    "basis",
    "run_ids",
]
MEANING = (
    f"The published scheme keeps {KEPT_BITS} bits of a sum, sign included, and a larger one wraps around in silence. worst "
    "case bits: that the largest sum of the quantized weights could need. sums: of signed activations, as all backends here "
    "have them, or of unsigned ones, x + 2^(bits-1), as in the reference implementation. Simulated: `glwe` refuses such a plan."
)


@once
def overflow_layers(data: Data) -> pd.DataFrame:
    """For each kind of product of each run: worst case in bits, by its shape and by its weights, and outputs that wrapped."""
    lines = [line for _, run in _runs(data).iterrows() for line in _layer_lines(data, run)]
    table = in_order(pd.DataFrame(lines).reindex(columns=LAYER_COLUMNS), [*ORDER, "phase", "layer"])
    table.attrs["notes"] = [
        MEANING,
        "Layers of the same name in all blocks are one line. shape bits: log2((2^n - 1) 2^(n-1) inputs) + 1, what unsigned "
        "activations and weights of n bits could need whatever the weights are. wrapped: outputs whose distance from the exact "
        "integer product is more than noise, evaluations and rows of zero gradient included.",
    ]
    return table


def _runs(data: Data) -> pd.DataFrame:
    """Runs of the stage with the steps that they were asked for and `sums`, empty for a run that keeps all bits."""
    runs = data.runs[data.runs["stage"] == STAGE]
    rows = [rows_of(data.convergence, run) for _, run in runs.iterrows()]
    return runs.assign(sums=[_sums(of) for of in rows], requested_steps=[run_metric(of, "requested_steps") for of in rows])


def _sums(rows: pd.DataFrame) -> str:
    options = json.loads(rows["options"].iloc[0] or "{}")
    return SUMS.get(options.get("overflow"), "")


def _layer_lines(data: Data, run) -> list[dict]:
    rows = rows_of(data.convergence, run)
    rows, lines = rows[rows["phase"].isin(PHASES) & (rows["layer"] != "")], []
    for (layer, phase), group in rows.groupby(["layer", "phase"], sort=False):
        counted = group.groupby("metric")["value"].first()
        checked, wrapped = counted["checked_outputs"], counted["wrapped_outputs"]
        inputs, bits = group["inputs"].iloc[0], (run["activation_bits"], run["weight_bits"])
        line = {column: run[column] for column in SETTING} | {"layer": layer, "phase": phase, "inputs": inputs}
        line |= {"shape_bits": shape_bits(inputs, *bits), "worst_case_bits": counted["accumulator_bits"]}
        line |= {"checked_outputs": checked, "wrapped_outputs": wrapped, "wrapped_percent": 100 * wrapped / checked}
        lines.append(line | {"basis": run["basis"], "run_ids": ids_of(run)})
    return lines


def shape_bits(inputs: float, activation_bits: float, weight_bits: float) -> float:
    """Bits, sign included, that a sum of products of the largest unsigned activation and the largest signed weight needs."""
    return float(np.log2((2**activation_bits - 1) * 2 ** (weight_bits - 1) * inputs) + 1)


@once
def overflow(data: Data) -> pd.DataFrame:
    """For each run: share of outputs that wrapped around, and losses beside the exact integers'; then the published one.

    Empty without runs: the published loss alone is in `published_comparison`.
    """
    layers, runs = overflow_layers(data), _runs(data)
    lines = [_line(runs, run, layers[layers["run_ids"] == run["run_id"]]) for _, run in runs.iterrows()]
    ours = in_order(pd.DataFrame(lines).reindex(columns=COLUMNS), ORDER)
    published = pd.DataFrame([_published_line(row) for _, row in published_batch(data).iterrows()])
    table = pd.concat([ours, published]).reindex(columns=COLUMNS) if len(ours) and len(published) else ours
    table.attrs["notes"] = [
        MEANING,
        "initial: before the first step, of the model as it was pretrained. over integer: over the loss of the exact integer "
        "run of the same bits, quantizers and batches. products that could wrap: kinds of layers, forward and backward, whose "
        "worst case needs more bits than are kept (`overflow_layers` has each).",
        "The published line is one batch under encryption, of a model that had been trained in the clear. Its loss is above "
        "that of a guess among all tokens, the logarithm of the vocabulary. Model, texts and quantizers are others: no ratio.",
    ]
    return table.reset_index(drop=True)


def published_batch(data: Data) -> pd.DataFrame:
    """The published loss under overflow, from resources/reference."""
    return data.published_values[data.published_values["item"] == PUBLISHED_ITEM]


def _line(runs: pd.DataFrame, run, layers: pd.DataFrame) -> dict:
    exact = _exact(runs, run)
    line = dict(run) | {"eval_loss": run["final_loss"], "run_ids": ids_of(run, exact)}
    if exact is not None:
        for ours, theirs in (("initial_loss", "initial_loss"), ("eval_loss", "final_loss")):
            line[f"{ours}_over_integer"] = line[ours] / exact[theirs]
    if len(layers):
        line["worst_case_bits"] = layers["worst_case_bits"].max()
        line["products_that_could_wrap"] = int((layers["worst_case_bits"] > KEPT_BITS).sum())
    for phase, group in layers.groupby("phase"):
        line[f"wrapped_{phase}_percent"] = 100 * group["wrapped_outputs"].sum() / group["checked_outputs"].sum()
    return line


def _exact(runs: pd.DataFrame, run) -> pd.Series | None:
    """The exact integers' run of the same batches; None of a run that is one, or without one."""
    same = ["model", "dataset", "quantizer", "activation_bits", "weight_bits", "constant_rows", "seed", "requested_steps"]
    found = runs[(runs["backend"] == "integer") & (runs[same] == run[same]).all(axis=1)]
    return found.iloc[0] if len(found) and run["sums"] else None


def _published_line(row) -> dict:
    return {
        "model": "Llama-3.2-1B",
        "dataset": "code snippets",
        "variant": row["configuration"],
        "activation_bits": 16.0,
        "backend": "published",
        "eval_loss": row["value"],
        "status": "ok",
        "source": row["source"],
        "certainty": row["certainty"],
        "basis": row["basis"],
        "run_ids": "",
    }
