"""Made-up records of probed integer runs, their noisy twins, and training with both optimizers."""

from __future__ import annotations

import numpy as np
from synthetic_results import run_rows

PROBED = {
    "noisy_rows": 32,
    "noisy_row_share": 0.5,
    "noisy_weight_scale": 0.01,
    "zero_row_gain": 250.0,
    "zero_row_gain_error": 5.0,
}
NORM, STEPS = 2.0, 5
# Of PROBED, a clear norm of 2 and the noise of 19 units that `run_rows` gives to glwe_simulated.
PREDICTED = float(np.sqrt(1 + 0.5 * 64 * (19.0 * 0.01) ** 2 * 250 / 2**2))


def steps_of(rows: list[dict], metric: str, value: float) -> list[dict]:
    """The value at each step of a run."""
    losses = [row for row in rows if (row["phase"], row["metric"]) == ("train", "loss")]
    return [row | {"metric": metric, "value": value} for row in losses]


def _with_norm(rows: list[dict], norm: float) -> list[dict]:
    return [row for row in rows if row["metric"] != "grad_norm"] + steps_of(rows, "grad_norm", norm)


def _said(rows: list[dict], metric: str, value: float) -> list[dict]:
    return [*rows, rows[0] | {"phase": "run", "step": "", "metric": metric, "value": value}]


def probed_rows(measured: float = PREDICTED, variant: str = "published setting", **keys) -> list[dict]:
    """A probed integer run and its noisy twin, whose gradients are so many times as large."""
    keys = {"stage": "inflation", "variant": variant, "steps": STEPS, "activation_bits": 7, "weight_bits": 7} | keys
    name = f"probed-{variant.replace(' ', '-')}"
    clear = _with_norm(run_rows(f"{name}-integer", 0.9, **keys), NORM)
    clear += [row for metric, value in PROBED.items() for row in steps_of(clear, metric, value)]
    noisy = run_rows(f"{name}-noisy", 0.9, backend="glwe_simulated", constant_rows="reference", **keys)
    return clear + _said(_with_norm(noisy, NORM * measured), "count_padding", 1)


def optimizer_rows() -> list[dict]:
    """Runs of float, exact and reference rows under AdamW and SGD; under SGD, reference rows do not learn."""
    rows = []
    for name, is_sgd in (("AdamW", 0), ("SGD", 1)):
        keys = {"stage": "inflation", "variant": name, "steps": 30, "activation_bits": 7, "weight_bits": 7}
        made = [run_rows(f"{name}-float", 0.9, backend="float", **keys)]
        made.append(run_rows(f"{name}-exact", 0.9, backend="glwe_simulated", **keys))
        made.append(run_rows(f"{name}-ref", 2.2, backend="glwe_simulated", constant_rows="reference", **keys))
        rows += [row for run in made for row in _said(_said(run, "sgd", is_sgd), "count_padding", 1)]
    return rows
