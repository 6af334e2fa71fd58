"""The report's page without a browser: nothing published is missing, nothing empty is shown, a miss is as visible as a hit."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pandas as pd
import pytest
from report_results import publish
from synthetic_results import packed_rows, sweep_rows, write_results

from private_lora.cli.main import main
from private_lora.core.errors import UserError
from private_lora.publish.report import page
from private_lora.publish.report.page import marked_up, write_report
from private_lora.publish.report.questions import QUESTIONS
from private_lora.publish.tables import write_table
from private_lora.publish.tables.render import for_reading, notes_in, to_markdown
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES, Published

NOT_RUN = "Not run in this study."


def written(results: Path) -> str:
    write_report(results, results / "report.html", results / "no-records")
    return (results / "report.html").read_text(encoding="utf-8")


def texts(content: str) -> str:
    """What a reader sees, without tags."""
    content = re.sub(r"<(style|script)>.*?</\1>", "", content, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", content)))


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> str:
    data = write_results(tmp_path_factory.mktemp("empty"), convergence=[], layer=[], block=[])
    return written(publish(data, figures=["loss_curves", "packed_loss", "knowledge"]))


@pytest.fixture(scope="module")
def failing(tmp_path_factory) -> Path:
    """A study in which 8 bits are far from float32, and one table and one figure of somebody else."""
    rows = sweep_rows(bits=(4, 8), seeds=(0,), models=("mini-llama",)) + packed_rows()
    for row in rows:
        if row["run_id"] == "mini-llama-DTok-SC-8-0" and row["metric"] == "loss" and row["phase"] == "eval" and row["step"]:
            row["value"] *= 2
    data = write_results(tmp_path_factory.mktemp("failing"), convergence=rows, layer=[], block=[])
    return publish(data, ["claims", "final_loss", "packed_training", "runs"], ["final_loss_vs_bits"])


def test_without_runs_every_answer_says_so_and_no_empty_figure_appears(empty):
    parts = [part for question in QUESTIONS for part in question.parts]
    assert empty.count(NOT_RUN) == len(parts) + 1  # and the opening
    figures = re.findall(r'<figure id="figure-(\w+)">', empty)
    assert figures == ["loss_curves"]  # which has the published curves
    assert "figure `packed_loss`".replace("`", "") in texts(empty).replace("  ", " ")
    assert 'class="origin"' not in empty


def test_a_claim_that_is_missed_is_listed_with_its_value_and_target(failing):
    claims = pd.read_csv(failing / "tables" / "claims.csv")
    missed = claims[claims["verdict"].isin(["MISSED", "FAILS"])]
    seen = texts(written(failing))
    assert len(missed) >= 2
    for _, claim in missed.iterrows():
        assert f"{claim['verdict']} : {claim['claim']}: " in seen
        assert f"target {claim['target']}." in seen
    assert "Does it converge? No. At 8 bits" in seen


def test_cells_notes_and_numbers_of_rows_are_those_of_the_table(failing):
    content = written(failing)
    shown = for_reading(pd.read_csv(failing / "tables" / "final_loss.csv", keep_default_na=False, na_values=[""]))
    lines = [line.split(" | ") for line in (failing / "tables/final_loss.md").read_text().splitlines()[2 : 2 + len(shown)]]
    assert [[cell.strip("| ") for cell in line] for line in lines] == shown.values.tolist()
    rows = re.findall(r'<tr id="final_loss-(\d+)">.*?</tr>', content, flags=re.S)
    assert rows == [str(number) for number in range(1, len(shown) + 1)]
    for note in notes_in((failing / "tables/final_loss.md").read_text()):
        assert html.escape(note, quote=False) in content.replace("&#34;", '"').replace("&#39;", "'")


def test_links_in_the_page_have_their_targets(failing):
    content = written(failing)
    assert set(re.findall(r'href="#([^"]+)"', content)) <= set(re.findall(r' id="([^"]+)"', content))


def test_a_table_and_a_figure_of_somebody_else_stand_in_the_last_section(failing, monkeypatch):
    table = pd.DataFrame([{"model": "theirs <b>", "share": 0.25, "basis": "measured", "run_ids": "their-run"}])
    write_table(table, failing / "tables" / "theirs.csv", "Their table")
    for suffix in (".png", ".csv"):
        source = failing / "figures" / f"final_loss_vs_bits{suffix}"
        (failing / "figures" / f"drawn{suffix}").write_bytes(source.read_bytes())
    entries = {name: Published(name, f"Their {name}", f"theirs:{name}", "What it shows.") for name in ("theirs", "drawn")}
    monkeypatch.setattr(page, "PUBLISHED_TABLES", PUBLISHED_TABLES | {"theirs": entries["theirs"]})
    monkeypatch.setattr(page, "PUBLISHED_FIGURES", PUBLISHED_FIGURES | {"drawn": entries["drawn"]})
    content = written(failing)
    rest = content[content.index('id="rest"') : content.index('id="runs"')]
    assert 'id="table-theirs"' in rest and 'id="figure-drawn"' in rest and "theirs &lt;b&gt;" in rest
    assert 'href="#run-their-run"' in rest and 'id="run-their-run"' in content
    (failing / "tables" / "theirs.csv").unlink()


def test_everything_published_is_there_once(failing):
    content = written(failing)
    for kind, known in (("table", PUBLISHED_TABLES), ("figure", PUBLISHED_FIGURES)):
        made = [name for name in known if (failing / f"{kind}s" / f"{name}.csv").is_file()]
        assert sorted(re.findall(rf' id="{kind}-(\w+)"', content)) == sorted(made)


def test_notes_come_back_from_markdown():
    table = pd.DataFrame({"model": ["a|b"], "basis": ["measured"]})
    assert notes_in(to_markdown(table)) == []
    table.attrs["notes"] = ["One.", "Two: `x`."]
    assert notes_in(to_markdown(table)) == ["One.", "Two: `x`."]
    assert notes_in(to_markdown(table.head(0))) == ["One.", "Two: `x`."]


def test_a_sentence_is_escaped_and_marked_up():
    assert marked_up("`a<b` & *c d*") == "<code>a&lt;b</code> &amp; <em>c d</em>"


def test_the_command_writes_the_page_and_says_what_is_missing(failing, tmp_path, capsys):
    assert main(["report", "--results", str(failing), "--out", str(tmp_path / "page.html"), "--figures"]) == 0
    assert "<figure" not in (tmp_path / "page.html").read_text()
    assert main(["report", "--results", str(failing), "--out", str(tmp_path / "page.html"), "--tables", "nothing"]) == 2
    assert "unknown table 'nothing'" in capsys.readouterr().err
    with pytest.raises(UserError, match="run the study first"):
        write_report(tmp_path, tmp_path / "page.html", tmp_path)
