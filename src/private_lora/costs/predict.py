"""The cost model: what a private training step of a real model takes, from measured parts, and how well that holds.

A step is the client's own work, and for every remote product encryption, the server's product, decryption and the messages.
Products come from the stage `block`, the client's own work from `integer` runs of one and two blocks; the whole steps measured
in the stage `full_size` are predicted from these and compared, and never fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from private_lora.core.files import atomic_path
from private_lora.costs.arrangement import Arrangement
from private_lora.costs.inputs import (
    PLAIN,
    Local,
    LocalWork,
    Scheme,
    Shapes,
    full_size_runs,
    known_architecture,
    local_of,
    local_works,
    schemes_of,
)
from private_lora.costs.model import (
    APART,
    IN_PROCESS,
    JOINT,
    PREDICTION,
    PRICE,
    SIZES,
    TIMES,
    VALIDATION,
    Part,
    Product,
    Work,
    predict,
    products_of,
)
from private_lora.costs.through_workers import (
    Handling,
    arranged_columns,
    arrangement_of,
    handled,
    handlings_of,
    network_of,
    runs_through_workers,
)
from private_lora.models.shapes import Architecture, architecture_of
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import OK
from private_lora.results.schema import COST_COLUMNS
from private_lora.specs.costs import CostSpec

FITTED = "other shapes: non-negative least squares of relative errors, [1, K, D, K D] over {} measured shapes"
# What computes a training run's products, by the run's backend, where the block measurement calls it something else.
MEASURED_AS = {"float": PLAIN}


def write_costs(spec: CostSpec, data: str | Path, out: str | Path) -> None:
    """Write costs.csv from convergence.csv and block.csv in the directory `data`; all or nothing."""
    table = costs(spec, Data(data))
    with atomic_path(Path(out)) as temporary:
        table.to_csv(temporary, index=False)


def costs(spec: CostSpec, data: Data) -> pd.DataFrame:
    """One line per prediction, per measured whole step beside its own, and per assumed price; columns COST_COLUMNS.

    What cannot be predicted, because no product at those tokens or no client's own work was measured, has no line.
    """
    runs = full_size_runs(data.convergence)
    works, schemes = local_works(runs), schemes_of(data.block_of_all_machines)
    remote = runs_through_workers(data.loopback)
    handlings = handlings_of(remote[~remote["run_id"].isin(data.disturbed)])
    lines = [*_predictions(spec, works, schemes, handlings), *_validations(spec, runs, works, schemes)]
    lines += _through_workers(spec, remote, works, schemes, handlings)
    lines += _prices(spec.prices)
    return pd.DataFrame(lines, columns=list(COST_COLUMNS))


def _prices(prices: dict) -> Iterator[dict]:
    """The assumed prices, for tables of measured runs: `money_per_step` is that of an hour, or of 10^9 bytes."""
    for name in ("worker_per_hour", "client_per_hour", "traffic_per_gb"):
        yield {
            "kind": PRICE,
            "formula": name,
            "money_per_step": prices[name],
            "currency": prices["currency"],
            "basis": "assumed",
        }


def _predictions(spec: CostSpec, works: list[LocalWork], schemes: list[Scheme], handlings: list[Handling]) -> Iterator[dict]:
    for model in spec.models:
        architecture = architecture_of(model)
        shares = products_of(architecture, JOINT, 1) != products_of(architecture, APART, 1)
        for scheme in schemes:
            for tokens in spec.tokens:
                for inputs in scheme.kinds if shares else (APART,):
                    yield from _of_setting(spec, architecture, scheme, tokens, inputs, works, handlings)


def _of_setting(
    spec: CostSpec,
    architecture: Architecture,
    scheme: Scheme,
    tokens: int,
    inputs: str,
    works: list[LocalWork],
    handlings: list[Handling],
) -> Iterator[dict]:
    """Lines of one scheme at one batch: for each network and arrangement of workers, or one where nothing is sent."""
    local = local_of(works, architecture, scheme.machine, tokens, inputs)
    found = step_work(architecture, scheme, scheme.at(tokens), tokens, inputs, local)
    if found is None:
        return
    work, columns = found
    columns |= scheme.columns | {"kind": PREDICTION, "model": architecture.name, "basis": "extrapolated"}
    if not work.remote:
        yield columns | predict(work, None, None, spec.prices)
        return
    work, said = handled(work, handlings, scheme.machine)
    columns |= {"formula": _joined(columns["formula"], said.formula), "run_ids": ids_of(columns["run_ids"], said.run_ids)}
    for network in spec.networks:
        for arranged in spec.arrangements:
            how = Arrangement.of(arranged["shards"], arranged["replicas"], arranged.get("rows_per_question"))
            line = columns | predict(work, network, how, spec.prices)
            line |= {"network": network["name"], "arrangement": arranged["name"]} | dict(arranged_columns(how, architecture))
            yield line | {key: network[key] for key in ("bandwidth_bits_per_s", "latency_s")}


def step_work(
    architecture: Architecture, scheme: Scheme, shapes: Shapes | None, tokens: int, inputs: str, local: Local | None
) -> tuple[Work, dict] | None:
    """The work of a step of the whole model, and columns that say how it came about; None if a part of it is not known."""
    products = products_of(architecture, inputs, architecture.blocks)
    sums = product_sums(products, shapes)
    if sums is None or shapes is None or local is None:
        return None
    fitted = sums["fitted"]
    quantize = local.quantize_s if scheme.remote else 0.0
    parts = [Part(product.times, *(shapes.cost(product)[name] for name in (*TIMES, *SIZES))) for product in products]
    work = Work(tokens, local.own_s, quantize, tuple(parts), scheme.remote)
    formula = _joined(shapes.formula, FITTED.format(len(shapes.table)) if fitted else "", local.formula)
    columns = {"blocks": architecture.blocks, "inputs": inputs, "recompute": local.recompute, "lora_rank": local.lora_rank}
    columns |= {"products_basis": "extrapolated" if fitted or shapes.formula else "measured", "local_basis": local.basis}
    return work, columns | {"formula": formula, "run_ids": ids_of(sums["run_ids"], local.run_ids)}


def product_sums(products: list[Product], shapes: Shapes | None) -> dict | None:
    """Seconds and bytes of all products by metric, `run_ids` behind them, and whether some were `fitted`; None if unknown."""
    each = [(product, shapes.cost(product)) for product in products] if shapes is not None else []
    if not each or any(cost is None for _, cost in each):
        return None
    sums = {name: sum(product.times * cost[name] for product, cost in each) for name in each[0][1]}
    known = [shapes.known.get((product.inputs, product.outputs)) for product in products]
    fitted = None in known
    return sums | {"fitted": fitted, "run_ids": shapes.run_ids if fitted else ids_of(*known)}


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _validations(spec: CostSpec, runs: pd.DataFrame, works: list[LocalWork], schemes: list[Scheme]) -> Iterator[dict]:
    """A line for each measured whole step: measured and predicted seconds, and the error over the measured."""
    whole = runs[(runs["blocks"] == runs["model_blocks"]) & (runs["status"] == OK)]
    for _, run in whole.iterrows():
        line = {name: run[name] for name in ("run_id", "model", "backend", "device", "machine", "bits", "inputs", "blocks")}
        line |= {"kind": VALIDATION, "options": run["variant"], "network": IN_PROCESS, "tokens": run["step_tokens"]}
        line |= {"recompute": run["recompute"], "lora_rank": run["lora_rank"], "basis": "measured"}
        line["measured_step_time_s"] = measured = run["warm_step_time_s"]
        found = _predicted(run, works, schemes)
        if found is None:
            reason = "not predicted: its products or its client's own work were not measured by themselves"
            yield line | {"formula": reason, "run_ids": run["run_id"]}
            continue
        work, columns = found
        line |= columns | _without_money(predict(work, None, None, spec.prices)) | {"basis": "extrapolated + measured"}
        line["run_ids"] = ids_of(run, columns["run_ids"])
        yield line | {"relative_error": line["step_time_s"] / measured - 1}


def _through_workers(
    spec: CostSpec, runs: pd.DataFrame, works: list[LocalWork], schemes: list[Scheme], handlings: list[Handling]
) -> Iterator[dict]:
    """A line for each whole model's measured step through workers that can be predicted. Client and workers share a machine."""
    whole = runs[runs["remote"].astype(bool) & (runs["blocks"] == runs["model_blocks"]) & (runs["status"] == OK)]
    for _, run in whole.iterrows():
        found = _predicted(run, works, schemes)
        if found is None:
            continue
        (work, columns), network, how = found, network_of(run), arrangement_of(run)
        work, said = handled(work, handlings, run["machine"], run)
        line = {name: run[name] for name in ("run_id", "model", "backend", "device", "machine", "bits", "inputs", "blocks")}
        line |= {"kind": VALIDATION, "network": network["name"], "arrangement": run["variant"], "workers": how.workers}
        line |= {key: network[key] for key in ("bandwidth_bits_per_s", "latency_s")}
        line |= {"options": run["options"], "tokens": run["step_tokens"], "rows_per_question": run["rows_per_question"]}
        line |= columns | _without_money(predict(work, network, how, spec.prices)) | {"basis": "extrapolated + measured"}
        line |= {"formula": _joined(columns["formula"], said.formula), "measured_step_time_s": run["warm_step_time_s"]}
        line["run_ids"] = ids_of(run, columns["run_ids"], said.run_ids)
        yield line | {"relative_error": line["step_time_s"] / run["warm_step_time_s"] - 1}


def _without_money(line: dict) -> dict:
    """A prediction of what ran in one process, where nobody was paid and nothing was sent."""
    return {name: value for name, value in line.items() if not name.startswith("money") and name != "currency"}


def _predicted(run, works: list[LocalWork], schemes: list[Scheme]) -> tuple[Work, dict] | None:
    """The work of a measured run, from parts of the same machine, backend, options, bits and tokens."""
    architecture = known_architecture(run["model"])
    wanted = (MEASURED_AS.get(run["backend"], run["backend"]), run["options"], run["device"], run["machine"])
    same = [s for s in schemes if (s.backend, s.backend_options, s.device, s.machine) == wanted]
    found = [s for s in same if run["bits"] in s.bits.split(", ")]
    if architecture is None or not found:
        return None
    tokens, inputs = int(run["step_tokens"]), run["inputs"]
    local = local_of(works, architecture, run["machine"], tokens, inputs, run["recompute"])
    return step_work(architecture, found[0], found[0].at(tokens), tokens, inputs, local)
