"""A table or figure is said once: its entry makes it known to the configuration, the report and the command."""

from __future__ import annotations

import inspect
import sys

import pandas as pd
import pytest
from synthetic_results import run_rows, write_results

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.publish.captions import captions, write_captions
from private_lora.publish.figures import FIGURES
from private_lora.publish.tables import TABLES, make_table
from private_lora.specs.descriptors import Published
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES, chosen
from private_lora.study.config import DEFAULTS, merge, read_yaml, study_of

MODULE = '''"""Table of how many runs there are of each model."""

from __future__ import annotations

import pandas as pd

from private_lora.results.labels import ids_of, join_basis
from private_lora.results.reader import Data


def models(data: Data) -> pd.DataFrame:
    """One line for each model: how many runs it has."""
    groups = data.runs.groupby("model", sort=False)
    lines = [{"model": m, "runs": len(g), "basis": join_basis(g["basis"]), "run_ids": ids_of(g)} for m, g in groups]
    return pd.DataFrame(lines, columns=["model", "runs", "basis", "run_ids"])
'''
ENTRY = """
    Published(
        "models",
        "Runs by model",
        "models_table:models",
        "How many runs there are of each model.",
    ),
"""


@pytest.mark.parametrize(("functions", "entries"), [(TABLES, PUBLISHED_TABLES), (FIGURES, PUBLISHED_FIGURES)])
def test_every_entry_has_a_function_a_title_and_a_caption(functions, entries):
    assert list(functions) == list(entries) and len(functions) == len(entries)
    for name, entry in entries.items():
        assert list(inspect.signature(functions[name]).parameters) == ["data"]
        assert entry.name == name and entry.title and entry.caption.endswith(".")
    assert len({entry.title for entry in entries.values()}) == len(entries)


def test_captions_of_the_report_are_current():
    directory, texts = ROOT / "workflow" / "report", captions()
    kept = {path.name for path in directory.glob("*.rst")} - {"workflow.rst"}
    write = "`python -c \"from private_lora.publish.captions import write_captions; write_captions('workflow/report')\"`"
    assert kept == set(texts), f"write them anew: {write}"
    for name, text in texts.items():
        assert (directory / name).read_text() == text, f"{name} is not what specs/published_*.py say: {write}"


def test_a_caption_of_what_is_no_more_is_deleted(tmp_path):
    (tmp_path / "table_gone.rst").write_text("gone")
    (tmp_path / "workflow.rst").write_text("stays")
    write_captions(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*captions(), "workflow.rst"}


def test_a_table_is_one_file_and_one_entry(tmp_path, monkeypatch):
    assert len(MODULE.splitlines()) + len(ENTRY.split("\n")[1:-1]) <= 25
    (tmp_path / "models_table.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "models_table", raising=False)
    (entry,) = eval(f"[{ENTRY}]", {"Published": Published})
    monkeypatch.setitem(PUBLISHED_TABLES, "models", entry)
    data = write_results(tmp_path, run_rows("a") + run_rows("b", model="nano") + run_rows("c"), [], published=False)
    make_table("models", data, tmp_path / "models.csv")
    assert pd.read_csv(tmp_path / "models.csv")["run_ids"].tolist() == ["a c", "b"]
    assert "| mini-llama | 2 | measured |" in (tmp_path / "models.md").read_text()
    assert "<title>Runs by model</title>" in (tmp_path / "models.html").read_text()
    # Without any other change it is known to the configuration, and has a caption for the report.
    assert "models" in study_of(merge(read_yaml(DEFAULTS), {"publish": {"tables": "all"}})).tables
    assert captions()["table_models.rst"] == "How many runs there are of each model.\n"


def test_all_or_a_list_of_names_is_published():
    assert chosen(PUBLISHED_TABLES, "all") == tuple(PUBLISHED_TABLES)
    assert chosen(PUBLISHED_TABLES, ["runs"]) == ("runs",)
    config = read_yaml(DEFAULTS)
    study = study_of(merge(config, {"publish": {"tables": "all", "figures": ["loss_curves"]}}))
    assert (study.tables, study.figures) == (tuple(PUBLISHED_TABLES), ("loss_curves",))
    with pytest.raises(UserError, match="unknown table 'nonsense': known are knowledge, answers, claims"):
        study_of(merge(config, {"publish": {"tables": ["nonsense"]}}))
    with pytest.raises(UserError, match=r"publish\.tables"):
        study_of(merge(config, {"publish": {"tables": "some"}}))
