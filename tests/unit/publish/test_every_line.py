"""Every line of every table names its runs and a known basis, on made-up rows and on the recorded ones.

One test for each data, because making all tables takes longer than looking at them.
"""

from __future__ import annotations

import pandas as pd
import pytest
from recorded_results import collect_recorded
from synthetic_estimate import estimate_rows
from synthetic_generation import generation_rows
from synthetic_inflation import optimizer_rows, probed_rows
from synthetic_knowledge import knowledge_rows, through_workers
from synthetic_loopback import network_rows
from synthetic_overflow import overflow_rows
from synthetic_results import encrypted_rows, full_size_rows, inflation_rows, packed_rows, sweep_rows, write_results
from synthetic_worker_view import view_rows

from private_lora.publish.tables import TABLES
from private_lora.publish.tables.render import for_reading
from private_lora.results.reader import Data

BASES = {"measured", "simulated", "extrapolated", "published"}
# Of stages and settings that not every made-up study and not all kept records have.
NOT_EVERYWHERE = {"generation", "knowledge", "answers", "estimate_errors", "overflow", "overflow_layers"}
NOT_EVERYWHERE |= {"inflation_prediction", "alone_or_outsourced", "cost_validation"}
CALLS = {"remote_calls", "remote_calls_per_step", "remote_matmuls"}


def synthetic(directory):
    rows = sweep_rows((8,), (0,)) + encrypted_rows() + inflation_rows() + packed_rows() + full_size_rows()
    rows += knowledge_rows(steps=4) + overflow_rows() + probed_rows() + optimizer_rows()
    others = {"generation": generation_rows(), "estimate": estimate_rows(), "worker_view": view_rows()}
    return write_results(directory, rows, loopback=network_rows() + through_workers(steps=4), **others)


@pytest.mark.parametrize("collect", [synthetic, collect_recorded])
def test_every_line_of_every_table(collect, tmp_path):
    data = Data(collect(tmp_path))
    frames = (data.convergence, data.loopback, data.generation, data.layer, data.block, data.block_of_all_machines)
    frames += (data.estimate, data.worker_view)
    collected = set().union(*(frame["run_id"] for frame in frames))
    for name, function in TABLES.items():
        table = function(data)
        if not len(table) and name in NOT_EVERYWHERE:
            continue
        leads_to_its_runs(name, table, collected)
        has_a_known_basis(name, table)
        ratios_are_complete(name, table)
        bytes_name_their_calls(name, table)
    predictions_name_what_they_are_made_of(data, collected)


def leads_to_its_runs(name: str, table: pd.DataFrame, collected: set[str]) -> None:
    assert list(table)[-1] == "run_ids", name
    assert "run ids" not in for_reading(table), name
    ours = table["basis"].str.contains("measured|simulated|extrapolated")
    assert ours.any() and (table.loc[ours, "run_ids"] != "").all(), name
    named = [text.split() for text in table["run_ids"]]
    assert {run_id for ids in named for run_id in ids} <= collected, name
    assert all(len(ids) == len(set(ids)) for ids in named), name


def has_a_known_basis(name: str, table: pd.DataFrame) -> None:
    for column in [c for c in table if c == "basis" or c.endswith("_basis")]:
        assert {part for text in table[column].dropna() for part in text.split(" + ") if text} <= BASES, (name, column)


def ratios_are_complete(name: str, table: pd.DataFrame) -> None:
    """Integers and bf16 stand beside float32; of what was measured of a client, exact integers do."""
    for column in [c for c in table if c.endswith(("over_float32", "over_float32_median", "over_plaintext_float"))]:
        stem = column.replace("plaintext_float", "float32")
        others = {stem.replace("float32", other) for other in ("int8", "integer")}
        assert others & set(table), (name, column)
        assert column.startswith("measured_") or stem.replace("float32", "bf16") in table, (name, column)


def bytes_name_their_calls(name: str, table: pd.DataFrame) -> None:
    if any("bytes_per_token" in column or "bytes_per_row" in column for column in table):
        assert CALLS & set(table), name


def predictions_name_what_they_are_made_of(data: Data, collected: set[str]) -> None:
    """Runs of a block's products, and runs of the client's own work; a price is made of nothing."""
    costs = data.costs[data.costs["kind"] != "price"]
    named = [set(text.split()) for text in costs["run_ids"]]
    assert all(named) and set().union(*named) <= collected
    blocks = set(data.block_of_all_machines["run_id"])
    predicted = [ids for ids, kind in zip(named, costs["kind"], strict=True) if kind == "prediction"]
    assert predicted and all(blocks & ids and ids - blocks for ids in predicted)
