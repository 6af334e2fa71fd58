"""Table of published numbers beside ours: same normalisation, with source, certainty and differences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from private_lora.publish.tables.comparison_costs import COST_PARTS
from private_lora.publish.tables.comparison_lines import COLUMNS, nothing, our_side, published_line, published_rows, run_name
from private_lora.publish.tables.convergence import final_runs, mean_of_finite, with_float_runs
from private_lora.publish.tables.encryption import PUBLISHED_STEPS, encrypted_runs
from private_lora.publish.tables.overflow import PUBLISHED_ITEM as OVERFLOW
from private_lora.results.labels import ids_of, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import OK, float_run, rows_of, series_of, twin
from private_lora.specs.models import BUILT_IN_MODELS

CONVERGENCE_STUDY = "Llama-3.2-1B on orca-math, 2,500 steps of 4 x 128 tokens, one seed"
# (configuration, metric) of published values that others are divided by.
RATIO_BASES = {
    ("7-bit DTok-SC, 1479 examples x 64 tokens", "test_perplexity_before"),
    ("7-bit clear", "mean_train_loss"),
}
CLEAR = {"integer": "exact integers", "float": "float"}
FIVE_STEPS = "Llama-3.2-1B at 7 bits, 5 steps, batch 1 x 64 tokens; padding counted"


def published_comparison(data: Data) -> pd.DataFrame:
    """Each published number beside ours where there is one: published, ours, ratio, and what differs.

    A published number without a counterpart in the data keeps its row, with ours empty and the reason in `not_checked`.
    """
    lines = []
    for part in (_convergence, _perplexity, _five_steps, *COST_PARTS, _noise):
        lines += list(part(data))
    lines += _rest(data, lines)
    found = pd.DataFrame(lines)
    table = found.reindex(columns=COLUMNS)
    ratio = table["ours"].astype(float) / table["published"].astype(float)
    # What is a cost by token depends on how many share a batch: without both numbers a ratio would say nothing.
    by_token = table["normalisation"].astype(str).str.startswith("per ")
    known = ~by_token | table[["tokens_published", "tokens_ours"]].notna().all(axis=1)
    other_calls = found.reindex(columns=["other_calls"])["other_calls"].notna()
    table["ratio_ours_to_published"] = ratio.where(known & ~other_calls)
    table.attrs["notes"] = [
        "published: a number read in the paper's code, documentation or stored notebook outputs, with its certainty; ours: "
        "this study, with its basis. Both were normalised in the same way. tokens: of the batch, or rows of the product, on "
        "either side; a ratio of costs by token stands only where both are known. Published steps of 64 tokens stand beside "
        "ours at the number of tokens nearest to that, and, extrapolated, beside ours at the number we measured at.",
        "The published steps send each layer in a call of its own: a ratio stands beside runs of ours that do the same. not "
        "checked: why nothing of ours stands beside a published number.",
    ]
    return table


def _rest(data: Data, lines: list[dict]) -> Iterator[dict]:
    """The published values that no line is about: bases of the ratios, and what no run of ours could be put beside."""
    seen = {(line["published_setting"], line["metric"]) for line in lines}
    rows = data.published_values
    for _, row in rows[rows["step"].isna()].iterrows():
        if (row["configuration"], row["metric"]) in seen:
            continue
        is_base = (row["configuration"], row["metric"]) in RATIO_BASES
        reason = "the base of a ratio in another line" if is_base else "these records have nothing comparable"
        reason = "not of the same kind as any run: beside ours in the table overflow" if row["item"] == OVERFLOW else reason
        yield published_line(row["metric"].replace("_", " "), row, "none", 1.0, row["unit"]) | nothing(reason)


def _convergence(data: Data) -> Iterator[dict]:
    """Final running-mean training loss over that of the same study's float run."""
    published = published_rows(data, "convergence", "final_running_mean_train_loss")
    runs = final_runs(data)
    runs = runs[(runs["stage"] == "sweep") & (runs["status"] == OK)]
    floats = published.loc[published["configuration"] == "FP32", "value"]
    for _, row in published.iterrows():
        is_float = row["configuration"] == "FP32"
        scale, how = (1.0, "none") if is_float else (floats.iloc[0], "over FP32's in the same study, last step")
        line = published_line("final running-mean training loss", row, how, scale)
        bits, _, pair = row["configuration"].partition("-bit ")
        found = runs[runs["quantizer"] == (pair or "float")]
        found = found if is_float else found[found["activation_bits"] == float(bits)]
        found = in_order(found, ["model", "dataset", "variant"], BUILT_IN_MODELS)
        for (model, dataset, variant, _), group in found.groupby(["model", "dataset", "variant", "basis"], sort=False):
            values = [run["running_mean"] / (1 if is_float else _float_mean(data, run)) for _, run in group.iterrows()]
            texts = f"{dataset} ({variant})" if variant else dataset
            setting = f"{model}, {texts}, mean of {len(group)} seeds"
            differences = (
                f"ours: {model} on {texts}, {group['steps'].max():.0f} steps, {_padding(group.iloc[0])}; "
                f"published: {CONVERGENCE_STUDY}, in the clear"
            )
            behind = group.assign(run_ids=with_float_runs(data, group)) if not is_float else group
            yield line | our_side(setting, mean_of_finite(pd.Series(values)), behind, differences)
        if not len(found):
            yield line | nothing("no finished run of the sweep with these quantizers and bits")


def _float_mean(data: Data, run) -> float:
    partner = float_run(data.runs, run)
    return np.nan if partner is None else partner["running_mean"]


def _padding(run) -> str:
    """What the run's evaluation says of padding in its losses: one without padding is recorded only where padding counts."""
    if np.isnan(run["perplexity"]):
        return "not evaluated"
    return "padding not counted" if np.isnan(run["perplexity_without_padding"]) else "padding counted"


def _perplexity(data: Data) -> Iterator[dict]:
    """Test perplexity at the end over that before training, at 7 bits."""
    rows = published_rows(data, "llama_7bit_epoch").set_index("metric", drop=False)
    if not {"test_perplexity_before", "test_perplexity_after"} <= set(rows.index):
        return
    before = rows.loc["test_perplexity_before", "value"]
    line = published_line(
        "test perplexity after training",
        rows.loc["test_perplexity_after"],
        "over that before training",
        before,
    )
    runs = data.runs
    runs = runs[(runs["quantizer"] == "DTok-SC") & (runs["activation_bits"] == 7) & (runs["status"] == OK)]
    runs = runs[(runs["stage"] != "encrypted") & (runs["constant_rows"] != "reference")]
    for _, run in runs[runs["perplexity"].notna()].iterrows():
        first = series_of(rows_of(data.convergence, run), "eval", "perplexity").get(0, np.nan)
        differences = (
            f"ours: {run['model']} on {run['dataset']}, {run['steps']:.0f} steps, {_padding(run)}; "
            "published: Llama-3.2-1B, padding counted, so that most of the drop is learning to end the text"
        )
        yield line | our_side(run_name(run), run["perplexity"] / first, run, differences)
    if not runs["perplexity"].notna().any():
        yield line | nothing("no run at 7 bits with an evaluation")


def _five_steps(data: Data) -> Iterator[dict]:
    """Encrypted over clear in the first five steps: mean loss, and the gradient norm of step 1.

    Beside runs of ours that treat constant rows as the reference implementation does: the published ones do.
    """
    runs = data.runs
    glwe = runs[(runs["backend"] == "glwe") & (runs["constant_rows"] == "reference")]
    means = published_rows(data, PUBLISHED_STEPS, "mean_train_loss").set_index("configuration", drop=False)
    if {"7-bit FHE", "7-bit clear"} <= set(means.index):
        row, clear = means.loc["7-bit FHE"], means.loc["7-bit clear", "value"]
        line = published_line("mean training loss, first 5 steps", row, "encrypted / clear", clear)
        yield from _against_clear(data, glwe, line, "loss", 5)
    for _, row in published_rows(data, PUBLISHED_STEPS, "grad_norm_ratio_to_clear_step1").iterrows():
        line = published_line("gradient norm, step 1", row, "encrypted / clear")
        yield from _against_clear(data, glwe, line, "grad_norm", 1)


def _clear_run(data: Data, run) -> pd.Series | None:
    """The exact integers of the run's own stage, else its float run: the batches of another stage are not the same."""
    integer = twin(data.runs, run, "integer")
    return integer if integer is not None and integer["stage"] == run["stage"] else float_run(data.runs, run)


def _against_clear(data: Data, glwe: pd.DataFrame, line: dict, metric: str, steps: int) -> Iterator[dict]:
    pairs = [(run, _clear_run(data, run)) for _, run in glwe.iterrows()]
    pairs = [(run, clear) for run, clear in pairs if clear is not None]
    for run, clear in pairs:
        ours, exact = (series_of(rows_of(data.convergence, r), "train", metric) for r in (run, clear))
        common = ours.index.intersection(exact.index)[:steps]
        differences = (
            f"ours: {run['model']} on {run['dataset']}, {run['activation_bits']:.0f} bits, "
            f"step 1 to {len(common)}, "
            f"constant rows {run['constant_rows']}, clear = {CLEAR[clear['backend']]}; published: {FIVE_STEPS}, "
            "constant rows get scale 1"
        )
        behind = {"basis": run["basis"], "run_ids": ids_of(run, clear)}
        yield line | our_side(run_name(run), ours[common].mean() / exact[common].mean(), behind, differences)
    if not pairs:
        yield line | nothing("no run under glwe that treats constant rows as the reference implementation does")


def _noise(data: Data) -> Iterator[dict]:
    """Standard deviation of the noise on the 27-bit accumulator."""
    runs = encrypted_runs(data)
    runs = runs[runs["backend"].isin(["glwe", "glwe_simulated"]) & runs["accumulator_noise_std"].notna()]
    for _, row in published_rows(data, "noise", "noise_std").iterrows():
        line = published_line("accumulator noise, standard deviation", row, "none", 1.0, row["unit"])
        for _, run in runs.iterrows():
            yield line | our_side(run_name(run), run["accumulator_noise_std"], run, f"ours: layers of {run['model']}")
        if not len(runs):
            yield line | nothing("no run under glwe or its simulation")
