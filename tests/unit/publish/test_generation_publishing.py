"""The table of generated texts: what stands apart, what a token takes, and what it stands beside."""

import pandas as pd
import pytest
from synthetic_generation import generation_rows, generation_run
from synthetic_results import write_results

from private_lora.publish.tables.generation import generation
from private_lora.publish.tables.render import to_markdown
from private_lora.results.reader import Data


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return generation(
        Data(write_results(tmp_path_factory.mktemp("generation"), [], [], False, [], generation=generation_rows()))
    )


def line_of(table, backend, arrangement="in process"):
    (line,) = table[(table["backend"] == backend) & (table["arrangement"] == arrangement)].to_dict("records")
    return line


def test_prompt_first_token_and_the_others_stand_apart(table):
    line = line_of(table, "packed")
    assert (line["setup_s"], line["prefill_s"], line["first_token_s"]) == (3.0, 4.0, 2.0)
    assert (line["token_time_s_median"], line["token_time_s_min"], line["token_time_s_max"]) == (1.0, 0.5, 1.5)
    assert (line["text_s"], line["text_offline_s"]) == (9.0, pytest.approx(0.025))
    assert (line["prompt_tokens"], line["new_tokens"], line["link"], line["inputs"]) == (16, 5, "in process", "joint")


def test_ratios_are_to_the_same_text_in_the_same_arrangement_or_in_process(table):
    assert line_of(table, "packed")["token_time_over_float32"] == 2.0
    assert line_of(table, "packed")["token_time_over_integer"] == 4.0
    remote = line_of(table, "packed", "2 shards")
    assert remote["token_time_over_float32"] == 4.0
    assert remote["run_ids"].split() == [
        f"generation_mini-llama_{run}" for run in ("packed_2-shards", "float_in-process", "integer_in-process")
    ]
    assert pd.isna(line_of(table, "integer")["token_time_over_bf16"])


def test_a_text_in_bf16_stands_beside_all_others_and_is_no_float32(tmp_path):
    half = generation_run("float", factor=0.25)
    half = [r | {"options": '{"dtype":"bfloat16"}', "variant": "bf16 in process", "run_id": "half"} for r in half]
    found = generation(Data(write_results(tmp_path, [], [], False, [], generation=half + generation_rows())))
    assert line_of(found, "packed")["token_time_over_bf16"] == 8.0
    assert line_of(found, "packed", "2 shards")["token_time_over_bf16"] == 16.0
    assert line_of(found, "packed")["token_time_over_float32"] == 2.0
    assert line_of(found, "float", "bf16 in process")["token_time_over_float32"] == 0.25


def test_tokens_are_counted_up_to_the_first_that_differs(table):
    assert [line_of(table, "packed", a)["tokens_equal_to_integer"] for a in ("in process", "2 shards")] == [5, 3]
    assert pd.isna(line_of(table, "float")["tokens_equal_to_integer"])


def test_bytes_calls_and_trips_are_those_of_a_token(table):
    line = line_of(table, "packed", "2 shards")
    assert (line["remote_calls_per_token"], line["round_trips_per_token"]) == (24, 24)
    assert (line["upload_MB_per_token"], line["download_MB_per_token"]) == (0.2, 0.4)
    assert (line["sent_MB_per_token"], line["received_MB_per_token"]) == (0.25, 0.45)
    assert (line["client_peak_MB"], line["largest_worker_MB"], line["encrypted_matmuls"]) == (800, 600, 120)
    assert line["link"] == "loopback"


def test_a_study_without_texts_has_an_empty_table(tmp_path):
    assert "no data" in to_markdown(generation(Data(tmp_path)))
