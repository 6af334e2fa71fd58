"""The table of the client alone beside workers, and its sentences, say what the rows say. All rows are made up."""

from __future__ import annotations

import pandas as pd
import pytest
from synthetic_loopback import MINI, alone_rows, network_rows, network_run
from synthetic_results import write_results

from private_lora.publish.tables import TABLES
from private_lora.results.reader import Data

TOKENS = 1024
MACHINE_HOUR, TRAFFIC_GB = 0.10, 0.05  # of config.yaml


def table(tmp_path, rows=None, block=()) -> pd.DataFrame:
    rows = alone_rows() if rows is None else rows
    data = write_results(tmp_path, [], [], published=False, loopback=rows, block=list(block))
    return TABLES["alone_or_outsourced"](Data(data))


def test_every_way_stands_beside_the_client_alone_in_each_type(tmp_path):
    found = table(tmp_path).set_index("way")
    assert list(found.index) == ["float32", "bf16", "int8", "int4", "integer", "packed"]
    packed = found.loc["packed"]
    # Steps of 1.5, 2, 2.5 and 3 s, of which the first stands apart.
    assert packed["warm_steps"] == 3
    spread = packed[["wall_s_per_token", "wall_s_per_token_min", "wall_s_per_token_max"]] * TOKENS
    assert spread.tolist() == pytest.approx([2.5, 2, 3])
    assert packed["client_cpu_s_per_token"] * TOKENS == pytest.approx(0.625)
    for name in ("float32", "bf16", "int8", "int4", "integer"):
        assert packed[f"client_cpu_over_{name}"] == pytest.approx(0.625 / 0.8)
        assert packed[f"wall_over_{name}"] == pytest.approx(5)
    assert found.loc["int4", "wall_over_float32"] == 1
    assert found["client_peak_MB"].tolist() == [800, 700, 650, 600, 900, 500]
    assert packed["largest_worker_MB"] == 600 and found["workers"].tolist() == [0, 0, 0, 0, 0, 1]
    assert len(packed["run_ids"].split()) == 6


def test_money_is_that_of_client_workers_and_traffic(tmp_path):
    found = table(tmp_path).set_index("way")
    sent = (99e6 + 396e6) / (4 * TOKENS)
    assert found.loc["packed", "traffic_MB_per_token"] == pytest.approx(sent / 1e6)
    seconds = 2.5 / TOKENS
    paid = 1e6 * (seconds / 3600 * 2 * MACHINE_HOUR + sent / 1e9 * TRAFFIC_GB)
    assert found.loc["packed", "money_per_million_tokens"] == pytest.approx(paid)
    assert found.loc["int4", "money_per_million_tokens"] == pytest.approx(1e6 * 0.5 / TOKENS / 3600 * MACHINE_HOUR)


def test_the_sentence_says_what_pays_and_what_does_not(tmp_path):
    (said,) = (note for note in table(tmp_path).attrs["notes"] if note.startswith(f"{MINI}, 1,024 tokens a step"))
    assert "in the client's CPU time a token outsourcing pays (0.00061 s with packed; alone 0.000781 s with float32)" in said
    assert "in the wall time of a token outsourcing does not pay" in said
    assert "in the client's memory outsourcing pays (0.5 GB with packed; alone 0.6 GB with int4)" in said
    assert "in money for a million tokens outsourcing does not pay" in said


def test_what_beats_some_types_only_is_named_with_them(tmp_path):
    rows = [row for row in alone_rows() if row["backend"] != "packed"]
    rows += network_run("1 worker", (5.5, 5.25, 5.5, 5.25), (), peak_memory_bytes=6.6e8)
    said = table(tmp_path, rows).attrs["notes"][-1]
    assert "in the client's memory outsourcing pays over float32, bf16, integer only (0.66 GB" in said


def test_there_is_no_line_without_both_sides(tmp_path):
    only = [row for row in alone_rows() if row["backend"] != "packed"]
    assert not len(table(tmp_path, only))
    assert not len(table(tmp_path, network_rows()))


def test_records_without_cpu_time_have_none(tmp_path):
    rows = [row for row in alone_rows() if row["metric"] != "step_cpu_time_s"]
    found = table(tmp_path, rows)
    assert found["client_cpu_s_per_token"].isna().all() and found["wall_s_per_token"].notna().all()
    assert "CPU time" not in found.attrs["notes"][-1]
