"""Tables of fine-tuning runs: final losses, the gradient inflation, and the list of all runs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.results.labels import ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import (
    DIVERGED,
    LAST,
    OK,
    SETTING,
    WITHOUT_PADDING,
    float_run,
    rows_of,
    run_metric,
    series_of,
    with_ratio,
)
from private_lora.specs.models import BUILT_IN_MODELS

STOPPED_EARLY = "stopped early"
BY_QUANTIZER = [
    "stage",
    "model",
    "dataset",
    "quantizer",
    "activation_bits",
    "weight_bits",
    "backend",
    "constant_rows",
]


def spread(name: str, values: pd.Series) -> dict[str, float]:
    """Mean, smallest and largest finite value, as `name_mean`, `name_min`, `name_max`; NaN if none."""
    values = values[np.isfinite(values.astype(float))]
    if not len(values):
        return dict.fromkeys((f"{name}_mean", f"{name}_min", f"{name}_max"), np.nan)
    return {f"{name}_mean": values.mean(), f"{name}_min": values.min(), f"{name}_max": values.max()}


def mean_of_finite(values: pd.Series) -> float:
    """Mean of the finite values, NaN without any."""
    return spread("x", values)["x_mean"]


def describe_status(statuses: pd.Series) -> str:
    """`ok` when all runs are, otherwise how many runs ended how: `diverged (1 of 2)`."""
    bad = [f"{s} ({n} of {len(statuses)})" for s, n in statuses.value_counts().items() if s != OK]
    return ", ".join(bad) or OK


@once
def final_runs(data: Data) -> pd.DataFrame:
    """Runs of the convergence study, with their loss over that of the float run of the same seed.

    A run that ended before the steps it was asked for counts as failed: its last loss answers another question. That other runs
    of its stage are longer says nothing of it.
    """
    runs = data.runs[~data.runs["stage"].isin(["knowledge", "overflow", "encrypted", "inflation", "full_size"])].copy()
    short = (runs["status"] == OK) & [stopped_early(run, rows_of(data.convergence, run)) for _, run in runs.iterrows()]
    runs.loc[short, ["status", "final_loss"]] = [STOPPED_EARLY, np.nan]
    return runs.assign(ratio_to_float=with_ratio(runs, "final_loss"))


def stopped_early(run, rows: pd.DataFrame) -> bool:
    """Whether a run has fewer steps than it was asked for; rows that do not say so end, if evaluated, with an evaluation."""
    requested = run_metric(rows, "requested_steps")
    if np.isnan(requested):
        evaluated = series_of(rows, "eval", "loss")
        return len(evaluated) > 0 and evaluated.index[-1] < run["steps"]
    return run["steps"] < requested


def with_float_runs(data: Data, group: pd.DataFrame) -> str:
    """Ids of the runs of a group, then of the float runs that their ratios are taken over."""
    return ids_of(group, *[float_run(data.runs, run) for _, run in group.iterrows()])


def final_loss(data: Data) -> pd.DataFrame:
    """Final eval loss by model, quantizer pair and bits: mean and spread over seeds, ratio to float."""
    lines = []
    for keys, group in final_runs(data).groupby(SETTING, dropna=False, sort=False):
        setting = dict(zip(SETTING, keys, strict=True))
        finite = group[np.isfinite(group["final_loss"])]
        lines.append(
            {c: setting[c] for c in [*BY_QUANTIZER, "variant", "device"]}
            | {"steps": group["steps"].max()}
            | spread("eval_loss", finite["final_loss"])
            | spread("ratio_to_float", finite["ratio_to_float"])
            | {
                "train_running_mean": mean_of_finite(finite["running_mean"]),
                **{metric: mean_of_finite(finite[metric]) for metric in LAST},
                "n_requested": len(group),
                "n_ok": int((group["status"] == OK).sum()),
                "status": describe_status(group["status"]),
                "basis": join_basis(group["basis"]),
                "run_ids": with_float_runs(data, group),
            }
        )
    columns = [*BY_QUANTIZER, "variant", "device", "steps"]
    columns += [f"{q}_{s}" for q in ("eval_loss", "ratio_to_float") for s in ("mean", "min", "max")]
    columns += ["train_running_mean", *LAST, "n_requested", "n_ok", "status", "basis", "run_ids"]
    table = in_order(pd.DataFrame(lines, columns=columns), BY_QUANTIZER, BUILT_IN_MODELS)
    table = table.drop(columns=[c for c in WITHOUT_PADDING if table[c].isna().all()])
    table.attrs["notes"] = [
        "Mean [smallest, largest] over the seeds; eval loss in nats per labelled token. "
        "Padding is labelled, and counts, only where a loss without padding stands beside. "
        "ratio to float: mean over seeds of eval loss / that of the float run of the same seed, batches and number of steps; "
        "empty without one.",
        "diverged: the last loss is not finite, or the eval loss ended above where it started. stopped early: fewer steps than "
        "the run was asked for.",
    ]
    return table


@once
def inflation_runs(data: Data) -> pd.DataFrame:
    """Runs that show what constant rows do to gradients, with median gradient norm and ratios to float."""
    runs = data.runs[data.runs["stage"].isin(["inflation", "encrypted"])].copy()
    norms = {r["run_id"]: series_of(rows_of(data.convergence, r), "train", "grad_norm") for _, r in runs.iterrows()}
    runs["grad_norm_median"] = [norms[i].median() for i in runs["run_id"]]
    runs["grad_norm_step_1"] = [norms[i].get(1, np.nan) for i in runs["run_id"]]
    rows = [rows_of(data.convergence, r) for _, r in runs.iterrows()]
    runs["zero_gradient_rows"] = [run_metric(r, "zero_gradient_rows") for r in rows]
    runs["padding_counted"] = [run_metric(r, "count_padding") for r in rows]
    for column in ("grad_norm_median", "grad_norm_step_1", "final_loss", "running_mean"):
        runs[f"{column}_over_float"] = with_ratio(runs, column)
    return runs


def gradient_inflation(data: Data) -> pd.DataFrame:
    """Median gradient norm over float's with reference and exact constant rows, and the loss it costs."""
    runs = inflation_runs(data)
    keys = [
        "stage",
        "model",
        "dataset",
        "backend",
        "variant",
        "quantizer",
        "activation_bits",
        "constant_rows",
    ]
    lines = []
    for values, group in runs.groupby(keys, dropna=False, sort=False):
        lines.append(
            dict(zip(keys, values, strict=True))
            | {"steps": group["steps"].max(), "grad_norm_median": mean_of_finite(group["grad_norm_median"])}
            | spread("grad_norm_over_float", group["grad_norm_median_over_float"])
            | {"grad_norm_step_1_over_float": mean_of_finite(group["grad_norm_step_1_over_float"])}
            | {"final_train_running_mean": mean_of_finite(group["running_mean"])}
            | {"train_running_mean_over_float": mean_of_finite(group["running_mean_over_float"])}
            | {"final_eval_loss": mean_of_finite(group["final_loss"])}
            | {"eval_loss_over_float": mean_of_finite(group["final_loss_over_float"])}
            | {c: mean_of_finite(group[c]) for c in ("zero_gradient_rows", "padding_counted")}
            | {"n_requested": len(group), "n_ok": int((group["status"] == OK).sum())}
            | {"status": describe_status(group["status"]), "basis": join_basis(group["basis"])}
            | {"run_ids": with_float_runs(data, group)}
        )
    empty = pd.DataFrame(columns=[*keys, "grad_norm_over_float_mean", "basis", "run_ids"])
    table = pd.DataFrame(lines) if lines else empty
    table = in_order(table, ["stage", "model", "backend", "variant", "constant_rows"])
    table.attrs["notes"] = [
        "grad norm: before clipping; its median over the steps, over that of the float run of the same seed.",
        "constant rows: `reference` gives a constant row the scale 1, as the reference implementation does; "
        "`exact` keeps it what it was. zero gradient rows: share of backward rows that are zero; with `reference` fewer, "
        "as noise that entered one layer is no zero in the next.",
        "Not comparable with the published 8 to 27 times, but in runs with padding counted: the ratio depends on the share of "
        "zero rows and on how small the clear gradient is (table `inflation_prediction`).",
    ]
    return table


def runs(data: Data) -> pd.DataFrame:
    """One line per run: setting, status, basis, total time and peak memory."""
    table = data.runs.copy()
    rows = [rows_of(data.convergence, r) for _, r in table.iterrows()]
    table["total_time_s"] = [run_metric(r, "total_time_s") for r in rows]
    table["peak_memory_bytes"] = [run_metric(r, "peak_memory_bytes") for r in rows]
    table = pd.concat([table, _latency_runs(data)], ignore_index=True)
    columns = [
        "run_id",
        "stage",
        "model",
        "dataset",
        "backend",
        "variant",
        "device",
        "quantizer",
        "activation_bits",
    ]
    columns += ["weight_bits", "constant_rows", "seed", "steps", "initial_loss", "final_loss", "total_time_s"]
    order = ["stage", "model", "quantizer", "activation_bits", "backend", "seed"]
    table = in_order(table, order)[[*columns, "peak_memory_bytes", "status", "basis"]].assign(run_ids=lambda t: t["run_id"])
    table.attrs["notes"] = [f"`{DIVERGED}`: the last loss is not finite, or the eval loss ended above where it started."]
    return table


def _latency_runs(data: Data) -> pd.DataFrame:
    lines = []
    for run_id, rows in data.layer.groupby("run_id", sort=False):
        times = rows[rows["metric"].isin(["encrypt_time_s", "matmul_time_s", "decrypt_time_s"])]
        keys = {c: rows.iloc[0][c] for c in [*SETTING, "seed"] if c in rows}
        first = rows.iloc[0]
        keys |= {"quantizer": "", "variant": f"{first['rows']:.0f}x{first['inputs']:.0f}x{first['outputs']:.0f}"}
        bad = sorted(set(rows["status"]) - {OK})
        line = {
            "run_id": run_id,
            "total_time_s": times["value"].sum(min_count=1),
            "status": ", ".join(bad) or OK,
        }
        lines.append(keys | line | {"basis": join_basis(rows["basis"])})
    return pd.DataFrame(lines)
