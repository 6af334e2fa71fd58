"""Other systems' figures: each with source and certainty, never divided; ours beside them, with how they were measured."""

import csv

import pytest
from synthetic_generation import generation_rows
from synthetic_results import write_results

from private_lora.core.paths import RESOURCES
from private_lora.publish.tables.literature import COLUMNS, literature
from private_lora.publish.tables.render import to_markdown
from private_lora.results.prepare import collect_literature
from private_lora.results.reader import LITERATURE_COLUMNS, Data

REFERENCE = RESOURCES / "reference"


def rows_of_file():
    with open(REFERENCE / "literature.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def table(tmp_path):
    llama = [row | {"model": "Llama-3.2-1B"} for row in generation_rows()]
    root = write_results(tmp_path, [], [], False, [], generation=llama)
    collect_literature(REFERENCE, root / "published_literature.csv")
    return literature(Data(root))


def test_every_published_figure_says_all_that_a_comparison_needs():
    rows = rows_of_file()
    assert list(rows[0]) == LITERATURE_COLUMNS
    assert all(all(row.values()) for row in rows)
    assert all(float(row["figure"]) > 0 for row in rows)
    systems = " ".join(row["system"] for row in rows)
    assert all(name in systems for name in ("Perseus", "SIGMA", "PermLLM", "MPC", "TEE", "DP-LoRA"))


def test_published_rows_come_first_as_published_and_ours_as_measured(table):
    published = table[table["basis"] == "published"]
    assert len(published) == len(rows_of_file()) and published.index.tolist() == list(range(len(published)))
    assert not published["run_ids"].any()
    ours = table[table["basis"] == "measured"]
    assert ours["run_ids"].ne("").all() and set(ours["system"]) == {"packed (exact, session masks)"}


def test_our_text_is_counted_from_the_prompt_on_with_its_pads(table):
    (line,) = table[(table["basis"] == "measured") & table["interaction"].str.contains("one process")].to_dict("records")
    assert line["figure"] == pytest.approx(9.0 / 5)  # of text_s and new_tokens in test_generation_publishing
    assert line["unit"] == "s a token" and "prompt and pads included" in line["what"]


def test_nothing_is_divided(table):
    assert not [name for name in COLUMNS if "ratio" in name or "over" in name]
    assert "No ratio is taken" in to_markdown(table)


def test_without_records_or_literature_there_is_no_line(tmp_path):
    assert "no data" in to_markdown(literature(Data(tmp_path)))
