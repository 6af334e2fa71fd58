"""The estimate of a run: planned, calibrated on this machine, and added up. Imports nothing heavy."""

from __future__ import annotations

import time

from private_lora.core.cpu_time import CpuMeter
from private_lora.costs.arrangement import Arrangement
from private_lora.specs.run import RunSpec


def make_estimate(run: RunSpec, backends: list[str], network: dict, prices: dict, how: Arrangement) -> dict:
    """The estimate of a run by each of some backends, after a calibration on this machine; plain data.

    The run's own options are those of its own backend. Raises UserError on a model of which nothing is known here.
    """
    from private_lora.backends import load
    from private_lora.bench.calibration import calibrate_local, calibrate_products
    from private_lora.core.memory import physical_memory_bytes
    from private_lora.costs.estimate import Asked, estimate, local_model_name
    from private_lora.costs.plans import plan_model
    from private_lora.models.local import local_model
    from private_lora.models.shapes import architecture_of
    from private_lora.training.preparation import quantization_of

    options = {name: run.backend_options if name == run.backend else {} for name in backends}
    with local_model(run.model, run.revision) as model:
        asked = Asked(run, model, how, network, prices, physical_memory_bytes())
        start, meter = time.perf_counter(), CpuMeter()
        loaded = {name: load(name, **options[name]) for name in backends}
        plans = {n: plan_model(model, backend, quantization_of(run), asked.tokens, run.seed) for n, backend in loaded.items()}
        planned = time.perf_counter()
        rows = calibrate_products(run, {name: plan.of_each_shape() for name, plan in plans.items()}, options)
        name = local_model_name(model)
        local = calibrate_local(name, architecture_of(name), run) | {"model": name}
        end = time.perf_counter()
        found = estimate(asked, plans, rows, local)
    found |= {"planning_time_s": planned - start, "calibration_time_s": end - planned}
    return found | {"others_cpu_share": meter.shares().get("others_cpu_share")}
