"""Table of gradient inflation: predicted from the share of zero rows, the weights' scale and the noise, and measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.publish.tables.encryption import PUBLISHED_STEPS
from private_lora.results.labels import ids_of, in_order, join_basis
from private_lora.results.reader import Data
from private_lora.results.runs import rows_of, run_metric, series_of

# What two runs have in common that differ in noise and nothing else.
SAME = ["stage", "model", "dataset", "variant", "quantizer", "activation_bits", "weight_bits", "seed"]
SETTING = ["model", "dataset", "variant", "activation_bits", "padding_counted", "backend"]
MEASURED = ["noisy_rows", "noisy_row_share", "noisy_weight_scale", "zero_row_gain", "zero_row_gain_error"]
COLUMNS = [*SETTING, "steps", *MEASURED, "noise_std", "clear_grad_norm"]
COLUMNS += [f"ratio_{kind}_{what}" for kind in ("measured", "predicted") for what in ("median", "min", "max")]
COLUMNS += ["error_percent", "source", "certainty", "basis", "run_ids"]


def predicted_ratio(share, rows, scale, noise_std, gain, norm):
    """Root mean square gradient norm over the clear one, when the zero rows have the scale 1.

    share: of the rows that are zero. rows: in all, of the products where noise enters. scale: root mean square of the weight
    scales there. noise_std: of the accumulator, integer units. gain: squared norm that noise of size 1 in every input of a zero
    row adds to the gradient of the adapter. norm: of the clear gradient.
    """
    return np.sqrt(1 + share * rows * (noise_std * scale) ** 2 * gain / norm**2)


@once
def inflation_steps(data: Data) -> pd.DataFrame:
    """Every step of a noisy run with the reference's constant rows whose clear integer twin was probed: one line each."""
    runs = data.runs
    noisy = runs[(runs["constant_rows"] == "reference") & runs["backend"].isin(["glwe", "glwe_simulated"])]
    steps = [_steps(data, run, clear) for _, run in noisy.iterrows() for clear in _probed_twins(data, run)]
    return pd.concat(steps, ignore_index=True) if steps else pd.DataFrame(columns=["step", *COLUMNS])


def _probed_twins(data: Data, run: pd.Series) -> list[pd.Series]:
    """The integer run that saw the same batches and was probed, if there is one."""
    runs = data.runs
    same = (runs[SAME].fillna("") == run[SAME].fillna("")).all(axis=1)
    found = runs[same & (runs["backend"] == "integer") & (runs["constant_rows"] == "exact")]
    return [
        clear for _, clear in found.iterrows() if len(series_of(rows_of(data.convergence, clear), "train", "zero_row_gain"))
    ]


def _steps(data: Data, run: pd.Series, clear: pd.Series) -> pd.DataFrame:
    noisy_rows, clear_rows = rows_of(data.convergence, run), rows_of(data.convergence, clear)
    table = pd.DataFrame({name: series_of(clear_rows, "train", name) for name in MEASURED})
    table["clear_grad_norm"] = series_of(clear_rows, "train", "grad_norm")
    table["ratio_measured"] = series_of(noisy_rows, "train", "grad_norm") / table["clear_grad_norm"]
    table["noise_std"] = run_metric(noisy_rows, "accumulator_noise_std")
    table["padding_counted"] = run_metric(noisy_rows, "count_padding")
    table["ratio_predicted"] = predicted_ratio(
        table["noisy_row_share"],
        table["noisy_rows"] / table["noisy_row_share"],
        table["noisy_weight_scale"],
        table["noise_std"],
        table["zero_row_gain"],
        table["clear_grad_norm"],
    )
    fixed = {name: run[name] for name in (*SAME, "backend", "basis")}
    return table.rename_axis("step").reset_index().assign(**fixed, run_ids=ids_of(run, clear))


def shown_apart(data: Data, runs: pd.DataFrame) -> pd.Series:
    """Which runs are of predicted settings, or count padding as the published ones do: they have figures of their own."""
    counted = [run_metric(rows_of(data.convergence, run), "count_padding") == 1 for _, run in runs.iterrows()]
    predicted = set(inflation_steps(data)[["model", "variant"]].itertuples(index=False, name=None))
    pairs = zip(runs["model"], runs["variant"], strict=True)
    return pd.Series([a or b in predicted for a, b in zip(counted, pairs, strict=True)], index=runs.index, dtype=bool)


def inflation_prediction(data: Data) -> pd.DataFrame:
    """Inflation of the gradient norm by zero rows: median over steps and seeds, measured and predicted; then the published."""
    lines = []
    for keys, group in inflation_steps(data).groupby(SETTING, dropna=False, sort=False):
        measured, predicted = group["ratio_measured"], group["ratio_predicted"]
        lines.append(
            dict(zip(SETTING, keys, strict=True))
            | {"steps": len(group)}
            | {name: group[name].mean() for name in (*MEASURED, "noise_std", "clear_grad_norm")}
            | _spread("ratio_measured", measured)
            | _spread("ratio_predicted", predicted)
            | {"error_percent": 100 * (predicted.median() / measured.median() - 1)}
            | {"basis": join_basis(group["basis"]), "run_ids": ids_of(group)}
        )
    ours = in_order(pd.DataFrame(lines, columns=COLUMNS), ["model", "backend"])
    published = _published(data)
    table = pd.concat([ours, published]).reindex(columns=COLUMNS) if len(ours) and len(published) else ours
    table.attrs["notes"] = [
        "predicted = sqrt(1 + noisy rows * (noise std * weight scale)^2 * gain / clear grad norm^2), noisy rows = noisy row "
        "share * rows, for each step; medians over steps and seeds. error: of the predicted median over the measured one. From "
        "the noisy run comes the standard deviation of the scheme's noise and nothing else.",
        "noisy rows: rows of a gradient that are exactly zero where noise first meets them; what it has entered is zero no "
        "longer. gain: squared norm that noise of size 1 in such a row adds to the adapter's gradient, measured on the clear "
        "integer run with random signs, with its standard error. Other columns: means.",
        "published: Llama-3.2-1B, whose weights were not at hand: its share of zero rows, scale and gain are not known here, "
        "so nothing is predicted for it.",
    ]
    return table.reset_index(drop=True).fillna({"run_ids": ""})


def _spread(name: str, values: pd.Series) -> dict[str, float]:
    return {f"{name}_{what}": getattr(values, what)() for what in ("median", "min", "max")}


def _published(data: Data) -> pd.DataFrame:
    """The published ratios in the table's columns."""
    rows = data.published_values
    rows = rows[(rows["item"] == PUBLISHED_STEPS) & rows["metric"].str.startswith("grad_norm_ratio_to_clear")]
    lines = []
    for _, row in rows.iterrows():
        about = {"model": "Llama-3.2-1B", "activation_bits": 7, "padding_counted": 1, "backend": "published"}
        lines.append(about | {name: row[name] for name in ("source", "certainty")} | {"basis": "published"})
        lines[-1] |= {"variant": row["metric"].removeprefix("grad_norm_ratio_to_clear_"), "ratio_measured_median": row["value"]}
    return pd.DataFrame(lines, columns=COLUMNS)
