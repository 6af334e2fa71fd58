"""Shares of ceilings, computed by hand from made-up rows."""

import pandas as pd
import pytest
from synthetic_results import BLOCK_BYTES, BLOCK_LAYERS, block_rows, write_results

from private_lora.publish.tables import TABLES
from private_lora.publish.tables.render import to_markdown
from private_lora.results.reader import Data

WEIGHTS = sum(k * d for k, d in BLOCK_LAYERS.values())
WIDTHS = sum(k + d for k, d in BLOCK_LAYERS.values())
TOKENS = 2048
# Made up: a machine that issues 10^12 operations and copies 10^10 bytes in a second.
CEILINGS = {"ceiling_int8_ops_per_s": 1e12, "ceiling_copy_bytes_per_s": 1e10}
PLANES = 9


def counted_rows(**columns) -> list[dict]:
    """`block_rows` at 2,048 tokens, without glwe, with the packed server's operations and the machine's ceilings."""
    rows = block_rows((TOKENS,), glwe=False)
    seen = [r for r in rows if r["backend"] == "packed" and r["metric"] == "matmul_time_s"]
    for row in seen:
        tokens, inputs, outputs = (row[name] for name in ("tokens", "inputs", "outputs"))
        rows.append(row | {"metric": "int8_operations", "value": 2.0 * PLANES * tokens * inputs * outputs})
    process = {k: v for k, v in rows[0].items() if k not in ("repeat", "value", "layer", "sample")} | {
        "backend": "",
        "variant": "",
        "phase": "run",
    }
    rows += [process | {"metric": name, "value": value} for name, value in CEILINGS.items()]
    return [row | columns for row in rows]


def made(tmp_path, rows) -> pd.DataFrame:
    return TABLES["block_utilisation"](Data(write_results(tmp_path, [], [], published=False, block=rows)))


@pytest.fixture
def table(tmp_path) -> pd.DataFrame:
    return made(tmp_path, counted_rows()).set_index("backend")


def seconds(table, backend) -> float:
    return table.loc[backend, "server_ms_per_token"] / 1e3 * TOKENS


def test_plaintext_operations_are_two_for_each_product_of_entries(table):
    for backend in ("plaintext_float32", "plaintext_int8"):
        assert table.loc[backend, "operations_per_token"] == 2 * 2 * WEIGHTS  # forward and backward
        rate = 2 * 2 * WEIGHTS * TOKENS / seconds(table, backend)
        assert table.loc[backend, "operations_per_s"] == pytest.approx(rate)
        assert table.loc[backend, "share_of_int8_ceiling"] == pytest.approx(rate / 1e12)
    # Twice 2 T K D in 10^-12 T K D seconds, of which the median speed is 2.
    assert table.loc["plaintext_float32", "operations_per_s"] == pytest.approx(1e12)


def test_packed_operations_are_those_that_the_server_counted(table):
    assert table.loc["packed", "operations_per_token"] == 2 * 2 * PLANES * WEIGHTS
    rate = 2 * 2 * PLANES * WEIGHTS * TOKENS / seconds(table, "packed")
    assert table.loc["packed", "operations_per_s"] == pytest.approx(rate)
    assert table.loc["packed", "share_of_int8_ceiling"] == pytest.approx(rate / 1e12)


def test_operands_and_results_are_moved_once(table):
    sizes = {"plaintext_float32": (4, 4), "plaintext_int8": (1, 4)}
    for backend, (entry, result) in sizes.items():
        moved = entry * (TOKENS * WIDTHS + 2 * WEIGHTS) + result * TOKENS * WIDTHS
        assert table.loc[backend, "share_of_copy_ceiling"] == pytest.approx(moved / seconds(table, backend) / 1e10)
    up, down = BLOCK_BYTES["packed"]
    moved = (up + down) * TOKENS * WIDTHS + 2 * WEIGHTS
    assert table.loc["packed", "share_of_copy_ceiling"] == pytest.approx(moved / seconds(table, "packed") / 1e10)


def test_wide_weights_are_two_bytes_each(tmp_path):
    tables = [made(tmp_path, counted_rows(weight_bits=bits)).set_index("backend") for bits in (8, 12)]
    shares = [table.loc["packed", "share_of_copy_ceiling"] * seconds(table, "packed") * 1e10 for table in tables]
    assert shares[1] - shares[0] == pytest.approx(2 * WEIGHTS)


def test_what_was_not_counted_or_measured_is_empty(tmp_path):
    rows = [r for r in counted_rows() if r["metric"] not in CEILINGS]
    table = made(tmp_path, rows).set_index("backend")
    shares = ["share_of_int8_ceiling", "share_of_copy_ceiling", *CEILINGS]
    assert table[shares].isna().all(axis=None)
    assert table.loc["packed", "operations_per_s"] > 0
    # No server counted these: not 0.
    assert table.loc["packed_approx", ["operations_per_token", "operations_per_s"]].isna().all()
    assert table.loc["packed_approx", "server_ms_per_token"] > 0
    some = [r for r in rows if not (r["metric"] == "int8_operations" and r["layer"] == "down")]
    assert pd.isna(made(tmp_path, some).set_index("backend").loc["packed", "operations_per_token"])
    assert set(table["basis"]) == {"measured"}


def test_glwe_has_no_line_and_no_rows_no_data(tmp_path):
    assert "glwe" not in set(made(tmp_path, block_rows())["backend"])
    assert "no data" in to_markdown(made(tmp_path, []))


def test_ceilings_are_those_of_the_same_run_and_machine(tmp_path):
    twice = counted_rows(machine="slow") + [
        row | {"value": 2 * row["value"]} if row["metric"] in CEILINGS else row for row in counted_rows(machine="fast")
    ]
    table = made(tmp_path, twice)
    shares = table[table["backend"] == "packed"].set_index("machine")["share_of_int8_ceiling"]
    assert shares["slow"] == pytest.approx(2 * shares["fast"])
