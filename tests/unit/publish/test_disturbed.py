"""A line whose runs were disturbed by other programs says so, wherever it is printed."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from synthetic_results import layer_rows, write_results

from private_lora.publish.tables import make_table
from private_lora.publish.tables.disturbed import NOT_MEASURED, with_disturbed
from private_lora.results.reader import Data


def table() -> pd.DataFrame:
    found = pd.DataFrame({"x": [1, 2, 3], "basis": ["measured"] * 3, "run_ids": ["a b", "c", ""]})
    found.attrs["notes"] = ["x: a number."]
    return found


def test_the_largest_share_among_a_lines_runs_is_said():
    made = with_disturbed(table(), {"a": 0.12, "b": 0.31, "elsewhere": 0.9})
    assert made["disturbed"].tolist() == ["others took 31% of the CPU", "", ""]
    assert list(made) == ["x", "disturbed", "basis", "run_ids"]
    assert made.attrs["notes"][0] == "x: a number." and made.attrs["notes"][1].startswith("disturbed: ")


def test_what_is_known_without_a_number_is_said_without_one():
    assert with_disturbed(table(), {"b": 0.31, "a": math.nan})["disturbed"].tolist() == [NOT_MEASURED, "", ""]


@pytest.mark.parametrize("disturbed", [{}, {"elsewhere": 0.9}])
def test_a_quiet_table_stays_as_it_is(disturbed):
    assert with_disturbed(table(), disturbed) is not None
    assert "disturbed" not in with_disturbed(table(), disturbed)


def test_every_file_of_a_table_says_it(tmp_path, monkeypatch):
    rows = layer_rows(("1x256x256",))
    monkeypatch.setattr(Data, "disturbed", {"lat-glwe-1x256x256": 0.4}, raising=False)
    make_table("layer", write_results(tmp_path, [], rows, published=False), tmp_path / "layer.csv")
    for suffix in ("csv", "md", "tex", "html"):
        text = (tmp_path / f"layer.{suffix}").read_text().replace("\\", "")
        assert "others took 40% of the CPU" in text
    for suffix in ("md", "tex", "html"):
        assert "disturbed: other programs ran" in (tmp_path / f"layer.{suffix}").read_text()
    # A product in the clear beside it was not: only lines that name the run are marked.
    found = pd.read_csv(tmp_path / "layer.csv", keep_default_na=False)
    assert set(found.loc[found["disturbed"] == "", "backend"]) == {"float", "integer"}
