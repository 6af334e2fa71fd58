"""How far noise in the zero rows of a step's gradient reaches into the gradient of the adapter (`split.zero_rows`)."""

from __future__ import annotations

import numpy as np
import torch

from private_lora.split.zero_rows import ZeroRowProbe
from private_lora.training.preparation import Run


def probe_zero_rows(run: Run, loss: torch.Tensor, parameters: list[torch.nn.Parameter]) -> None:
    """Rows of the present step, whose gradients are there and whose graph was retained; none where no probe is asked for.

    `noisy_rows`: rows that noise would enter, and `noisy_row_share` of all rows of the products that have some.
    `noisy_weight_scale`: root mean square of the weight scales there. `zero_row_gain`: mean over the probes of
    |J s v|^2 / (rows * scale^2), per row and unit of noise, with its standard error in `zero_row_gain_error`.
    """
    probes = run.spec.zero_row_probes
    if not probes or run.spec.backend != "integer" or run.spec.constant_rows != "exact":
        return
    columns = {"phase": "train", "step": run.step + 1}
    generator = np.random.default_rng([run.spec.seed, run.step])
    gains = [_gain(run, loss, parameters, ZeroRowProbe(generator)) for _ in range(probes)]
    probe = gains[0][1]
    values = np.array([gain for gain, _ in gains])
    run.recorder.add("noisy_rows", probe.rows, **columns)
    if not probe.rows:
        return
    run.recorder.add("noisy_row_share", probe.rows / probe.of_rows, "fraction", **columns)
    run.recorder.add("noisy_weight_scale", float(np.sqrt(probe.squares / probe.rows)), **columns)
    run.recorder.add("zero_row_gain", float(values.mean()), **columns)
    if probes > 1:
        run.recorder.add("zero_row_gain_error", float(values.std(ddof=1) / np.sqrt(probes)), **columns)


def _gain(
    run: Run, loss: torch.Tensor, parameters: list[torch.nn.Parameter], probe: ZeroRowProbe
) -> tuple[float, ZeroRowProbe]:
    """|J s v|^2 over the probe's squares: the gradient with the probe, less the one that is there."""
    run.session.probe = probe
    try:
        noisy = torch.autograd.grad(loss, parameters, retain_graph=True)
    finally:
        run.session.probe = None
    moved = sum(float((with_noise - p.grad).double().square().sum()) for with_noise, p in zip(noisy, parameters, strict=True))
    return (moved / probe.squares if probe.rows else 0.0), probe
