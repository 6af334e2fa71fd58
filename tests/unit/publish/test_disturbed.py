"""A line whose runs were disturbed by other programs says so, wherever it is printed."""

from __future__ import annotations

import pandas as pd
import pytest
from synthetic_results import layer_rows, write_results

from private_lora.publish.tables import make_table
from private_lora.publish.tables.disturbed import with_disturbed


def table() -> pd.DataFrame:
    found = pd.DataFrame({"x": [1, 2, 3], "basis": ["measured"] * 3, "run_ids": ["a b", "c", ""]})
    found.attrs["notes"] = ["x: a number."]
    return found


def test_what_disturbed_a_lines_runs_is_said_once():
    made = with_disturbed(table(), {"a": "others took 12 %", "b": "others took 31 %", "elsewhere": "others took 90 %"})
    assert made["disturbed"].tolist() == ["others took 12 %; others took 31 %", "", ""]
    assert list(made) == ["x", "disturbed", "basis", "run_ids"]
    assert made.attrs["notes"][0] == "x: a number." and made.attrs["notes"][1].startswith("disturbed: ")
    assert with_disturbed(table(), {"a": "noise", "b": "noise"})["disturbed"].tolist() == ["noise", "", ""]


@pytest.mark.parametrize("disturbed", [{}, {"elsewhere": "noise"}])
def test_a_quiet_table_stays_as_it_is(disturbed):
    assert "disturbed" not in with_disturbed(table(), disturbed)


def test_every_file_of_a_table_says_it(tmp_path):
    rows = layer_rows(("1x256x256",))
    glwe = next(row for row in rows if row["backend"] == "glwe")
    rows.append(glwe | {"metric": "others_cpu_share", "phase": "run", "repeat": "", "value": 0.4})
    make_table("layer", write_results(tmp_path, [], rows, published=False), tmp_path / "layer.csv")
    for suffix in ("csv", "md", "tex", "html"):
        text = (tmp_path / f"layer.{suffix}").read_text().replace("\\", "")
        assert "others took 40 % of the CPU time" in text
    for suffix in ("md", "tex", "html"):
        assert "disturbed: other programs ran" in (tmp_path / f"layer.{suffix}").read_text()
    # A product in the clear beside it was not: only lines that name the run are marked.
    found = pd.read_csv(tmp_path / "layer.csv", keep_default_na=False)
    assert set(found.loc[found["disturbed"] == "", "backend"]) == {"float", "integer"}
