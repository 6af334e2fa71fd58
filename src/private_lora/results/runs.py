"""Fine-tuning runs summed up, one line each, and paired with the twins that saw the same batches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from private_lora.results.labels import backend_label, join_basis

SETTING = [
    "stage",
    "model",
    "dataset",
    "backend",
    "device",
    "quantizer",
    "activation_bits",
    "weight_bits",
    "constant_rows",
    "variant",
]
# Recorded only where padding counts in the other losses.
WITHOUT_PADDING = ("loss_without_padding", "perplexity_without_padding")
LAST = ("perplexity", *WITHOUT_PADDING, "exact_match")  # of the last evaluation
DIVERGED, FAILED, SKIPPED, OK = "diverged", "failed", "skipped", "ok"


def series_of(frame: pd.DataFrame, phase: str, metric: str) -> pd.Series:
    """Values of one metric by step, for the rows of one run."""
    rows = frame[(frame["phase"] == phase) & (frame["metric"] == metric) & frame["step"].notna()]
    return rows.groupby("step")["value"].first()


def run_metrics(frame: pd.DataFrame, metrics: Iterable[str]) -> dict[str, float]:
    """The values that a run recorded once (phase `run`) by metric; NaN for what it did not."""
    rows = frame[(frame["phase"] == "run").to_numpy() & frame["value"].notna().to_numpy()]
    known: dict[str, float] = {}
    for metric, value in zip(rows["metric"], rows["value"], strict=True):
        known.setdefault(metric, float(value))
    return {metric: known.get(metric, np.nan) for metric in metrics}


def run_metric(frame: pd.DataFrame, metric: str) -> float:
    """One of `run_metrics`."""
    return run_metrics(frame, [metric])[metric]


def _last(series: pd.Series) -> float:
    return float(series.iloc[-1]) if len(series) else np.nan


def _status(rows: pd.DataFrame, train: pd.Series, evaluated: pd.Series) -> str:
    if len(rows) and (rows["status"] == SKIPPED).all():
        return SKIPPED
    if (rows["status"] == FAILED).any() or not (len(train) or len(evaluated)):
        return FAILED
    ends = [_last(s) for s in (train, evaluated) if len(s)]
    if not np.isfinite(ends).all():
        return DIVERGED
    return DIVERGED if len(evaluated) > 1 and evaluated.iloc[-1] > evaluated.iloc[0] else OK


def summarise_runs(convergence: pd.DataFrame) -> pd.DataFrame:
    """One line per run: its setting, status, basis, first and last values. Nothing is dropped.

    `status` is `diverged` where the last loss is not finite or the eval loss ended above where it started.
    """
    columns = [
        "run_id",
        "seed",
        "steps",
        "status",
        "basis",
        "initial_loss",
        "final_loss",
        "running_mean",
        *LAST,
        "label",
        "options",
    ]
    lines = []
    for run_id, rows in convergence.groupby("run_id", sort=False):
        train, evaluated = series_of(rows, "train", "loss"), series_of(rows, "eval", "loss")
        first = rows.iloc[0]
        line = {c: first[c] for c in SETTING} | {
            "run_id": run_id,
            "seed": first["seed"],
            "label": backend_label(first),
            "options": first["options"],
        }
        line["steps"] = max([s.index[-1] for s in (train, evaluated) if len(s)], default=np.nan)
        line["status"], line["basis"] = _status(rows, train, evaluated), join_basis(rows["basis"])
        line["initial_loss"] = float(evaluated.get(0, np.nan))
        # A run that stopped early must not pass off an earlier evaluation as its last one.
        done = len(evaluated) > 0 and evaluated.index[-1] == line["steps"]
        line["final_loss"] = _last(evaluated) if done else np.nan
        line["running_mean"] = _last(series_of(rows, "train", "running_mean_loss"))
        line |= {metric: _last(series_of(rows, "eval", metric)) if done else np.nan for metric in LAST}
        lines.append(line)
    frame = pd.DataFrame(lines, columns=[*SETTING, *columns])
    numeric = ["initial_loss", "final_loss", "running_mean", *LAST, "steps", "seed"]
    return frame.astype(dict.fromkeys([*numeric, "activation_bits", "weight_bits"], float))


def rows_of(convergence: pd.DataFrame, run) -> pd.DataFrame:
    """The result rows behind one line of `summarise_runs`."""
    return convergence[convergence["run_id"] == run["run_id"]]


def twin(runs: pd.DataFrame, run, backend: str) -> pd.Series | None:
    """The run of `backend`, never in bfloat16, that saw the same batches: same model, data, seed and, unless float, bits.

    Preferred in this order: the same stage, the same variant, exact constant rows, as many steps. None without such a run.
    """
    mask = (runs["backend"] == backend) & (runs["run_id"] != run["run_id"])
    for column in ("model", "dataset", "seed"):
        mask &= runs[column] == run[column]
    mask &= ~is_bf16(runs["options"])
    if backend != "float":
        for column in ("activation_bits", "weight_bits", "quantizer"):
            mask &= runs[column] == run[column]
    found = runs[mask]
    found = found[found["stage"] == run["stage"]] if (found["stage"] == run["stage"]).any() else found
    named = found[found["variant"] == run["variant"]]
    found = named if len(named) else found
    exact = found[found["constant_rows"] != "reference"]
    found = exact if len(exact) else found
    as_long = found[found["steps"] == run["steps"]]
    found = as_long if len(as_long) else found
    return found.iloc[0] if len(found) else None


def is_bf16(options: pd.Series) -> pd.Series:
    """Which of these options, of float runs, multiply in bfloat16."""
    return options.str.contains('"dtype":"bfloat16"', regex=False)


def float_run(runs: pd.DataFrame, run) -> pd.Series | None:
    """The float32 run of the same stage, length, seed and batches; a float32 run is its own. None without one."""
    own = run["backend"] == "float" and "bfloat16" not in run["options"]
    partner = run if own else twin(runs, run, "float")
    comparable = partner is not None and partner["stage"] == run["stage"] and partner["steps"] == run["steps"]
    return partner if comparable else None


def bf16_run(runs: pd.DataFrame, run) -> pd.Series | None:
    """As `float_run`, of the float run in bfloat16; a run in bfloat16 has none."""
    halves = runs[(runs["backend"] == "float") & is_bf16(runs["options"]) & (runs["run_id"] != run["run_id"])]
    same = ["stage", "model", "dataset", "seed", "steps"]
    found = halves[(halves[same] == run[same]).all(axis=1)]
    return found.iloc[0] if len(found) else None


def with_ratio(runs: pd.DataFrame, column: str) -> pd.Series:
    """`column` of each run over that of its float run; NaN without one."""
    partners = [(run, float_run(runs, run)) for _, run in runs.iterrows()]
    ratios = [np.nan if partner is None else run[column] / partner[column] for run, partner in partners]
    return pd.Series(ratios, index=runs.index, dtype=float)
