"""Every line of every table names its runs and a known basis, on made-up rows and on the recorded ones."""

from __future__ import annotations

import pytest
from recorded_results import collect_recorded
from synthetic_loopback import network_rows
from synthetic_results import encrypted_rows, full_size_rows, inflation_rows, packed_rows, sweep_rows, write_results

from private_lora.publish.tables import TABLES
from private_lora.publish.tables.render import for_reading
from private_lora.results.reader import Data

BASES = {"measured", "simulated", "extrapolated", "published"}


def synthetic(directory):
    rows = sweep_rows() + encrypted_rows() + inflation_rows() + packed_rows() + full_size_rows()
    return write_results(directory, rows, loopback=network_rows())


@pytest.fixture(scope="module", params=[synthetic, collect_recorded], ids=["made-up", "recorded"])
def data(request, tmp_path_factory) -> Data:
    return Data(request.param(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def collected(data) -> set[str]:
    """Ids of all runs in the data."""
    frames = (data.convergence, data.loopback, data.layer, data.block, data.block_of_all_machines)
    return set().union(*(frame["run_id"] for frame in frames))


@pytest.fixture(scope="module")
def tables(data) -> dict:
    return {name: function(data) for name, function in TABLES.items()}


@pytest.mark.parametrize("name", TABLES)
def test_a_line_leads_to_its_runs(tables, collected, name):
    table = tables[name]
    assert list(table)[-1] == "run_ids"
    ours = table["basis"].str.contains("measured|simulated|extrapolated")
    assert ours.any()
    assert (table.loc[ours, "run_ids"] != "").all()
    named = [text.split() for text in table["run_ids"]]
    assert {run_id for ids in named for run_id in ids} <= collected
    assert all(len(ids) == len(set(ids)) for ids in named)


@pytest.mark.parametrize("name", TABLES)
def test_only_the_four_bases_are_printed(tables, name):
    table = tables[name]
    for column in [c for c in table if c == "basis" or c.endswith("_basis")]:
        assert {part for text in table[column].dropna() for part in text.split(" + ") if text} <= BASES


@pytest.mark.parametrize("name", TABLES)
def test_run_ids_are_in_the_csv_and_not_in_what_is_read(tables, name):
    assert "run ids" not in for_reading(tables[name])


def test_predicted_costs_name_the_runs_that_they_are_made_of(data, collected):
    assert (data.costs["run_ids"] != "").all()
    assert {run_id for text in data.costs["run_ids"] for run_id in text.split()} <= collected
    blocks = set(data.block_of_all_machines["run_id"])
    predicted = data.costs[data.costs["kind"] == "prediction"]
    assert all(blocks & set(text.split()) and set(text.split()) - blocks for text in predicted["run_ids"])


def test_a_ratio_over_float32_has_integers_and_bf16_beside_it(tables):
    for name, table in tables.items():
        for column in [c for c in table if c.endswith(("over_float32", "over_float32_median", "over_plaintext_float"))]:
            if column.startswith("measured_"):
                assert column.replace("float32", "integer") in table
                continue
            stem = column.replace("plaintext_float", "float32")
            assert stem.replace("float32", "bf16") in table, name
            assert {stem.replace("float32", other) for other in ("int8", "integer")} & set(table), name


def test_bytes_per_token_stand_with_the_number_of_calls(tables):
    for name, table in tables.items():
        if any("bytes_per_token" in column or "bytes_per_row" in column for column in table):
            assert {"remote_calls", "remote_calls_per_step", "remote_matmuls"} & set(table), name
