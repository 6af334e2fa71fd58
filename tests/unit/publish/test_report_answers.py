"""Each sentence of the report says what a table's cell says, and changes with it; without a line it says nothing."""

from __future__ import annotations

import pandas as pd
import pytest

from private_lora.publish.report import answers_cost as cost
from private_lora.publish.report import answers_encryption as encryption
from private_lora.publish.report import answers_failed as failing
from private_lora.publish.report import answers_learning as learning
from private_lora.publish.report import answers_published as paper
from private_lora.publish.report import answers_time as time
from private_lora.publish.report.answer import Answer
from private_lora.publish.report.lines import Tables
from private_lora.publish.report.questions import OPENING, QUESTIONS
from private_lora.publish.tables.render import text_of
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES

BEHIND = {"basis": "measured", "run_ids": "made-up-run"}
KNOWLEDGE = BEHIND | {
    "model": "smollm2", "dataset": "knowledge_base", "arrangement": "in process", "backend": "packed", "bits": 8,
    "machine": "a machine", "steps": 300, "tokens_per_step": 546, "seeds": 1, "questions": 500,
    "exact_match_before_percent": 1.5, "exact_match_before_percent_low": 0.7, "exact_match_before_percent_high": 3.0,
    "exact_match_after_percent": 91.25, "exact_match_after_percent_low": 88.5, "exact_match_after_percent_high": 93.5,
    "guessing_percent": 12.75, "unrehearsed_loss_change_percent_mean": 48.25, "general_loss_change_percent_mean": -11.5,
    "losses_equal_to_integer": "300 of 300", "evaluations_equal_to_integer": "5 of 5", "encrypted_matmuls": 86_700,
    "step_time_s_median": 6.625, "step_time_over_float": 3.25, "step_time_over_integer": 4.25, "security_bits": 128,
}  # fmt: skip
SWEEP = BEHIND | {
    "stage": "sweep", "model": "mini-llama", "dataset": "math_problems", "quantizer": "DTok-SC", "activation_bits": 8,
    "weight_bits": 8, "backend": "integer", "variant": "", "ratio_to_float_mean": 1.0025, "ratio_to_float_min": 1.001,
    "ratio_to_float_max": 1.004, "n_requested": 2, "n_ok": 2, "status": "ok",
}  # fmt: skip
STEP = BEHIND | {
    "model": "Llama", "backend": "packed", "variant": "", "bits": 8, "machine": "a machine", "blocks": 16, "model_blocks": 16,
    "tokens": 2048, "inputs": "joint", "steps": 3, "step_time_s_median": 58.5, "step_time_s_min": 58.25,
    "step_time_s_max": 69.25, "quantize_s": 1.125, "encrypt_s": 6.5, "server_s": 27.25, "decrypt_s": 4.75, "rest_s": 23.5,
    "step_time_over_float32": 1.125, "step_time_over_integer": 2.25, "step_time_over_bf16": 1.75, "peak_memory_bytes": 2e10,
    "upload_bytes_per_token": 3_119_109, "download_bytes_per_token": 1_958_533, "remote_calls_per_step": 127,
    "encrypted_matmuls": 381, "security_bits": 128, "steps_equal_to_integer": 3, "prediction_error_percent": -7.25,
}  # fmt: skip
BLOCK = BEHIND | {
    "model": "Llama", "backend": "packed", "options": "", "machine": "a machine", "activation_bits": 8, "tokens": 2048,
    "inputs": "apart", "server_over_float32_median": 0.75, "server_over_int8_median": 6.25, "client_over_float32_median": 0.35,
    "client_over_int8_median": 3.125, "glwe_server_time_over_this": 28_289,
}  # fmt: skip
PRICED = BEHIND | {
    "model": "Llama", "options": "", "machine": "a machine", "tokens": 2048, "network": "LAN", "workers": 1, "currency": "USD",
    "basis": "extrapolated",
}  # fmt: skip
COSTS = [
    PRICED | {"backend": "plaintext_float32", "workers": None, "step_time_s": 103.25, "money_per_million_tokens": 1.375},
    PRICED | {"backend": "packed", "step_time_s": 321.5, "money_per_million_tokens": 410.5},
]
INFLATION = BEHIND | {"model": "nano", "backend": "glwe", "constant_rows": "reference", "steps": 1}
COUNTERS = BEHIND | {"backend": "glwe", "model": "nano", "encrypted_matmuls": 25, "security_bits": 128}
LAYER = BEHIND | {"backend": "glwe", "rows": 1, "inputs": 256, "outputs": 256, "metric": "total_time_s"}
LOOPBACK = BEHIND | {"model": "nano", "backend": "packed", "arrangement": "2 shards", "workers": 2, "tokens_per_step": 64}
TOKEN = BEHIND | {"model": "nano", "backend": "packed", "arrangement": "in process", "encrypted_matmuls": 5, "new_tokens": 24}
MEMORY = BEHIND | {"model": "nano", "arrangement": "2 shards"}
PACKED = BEHIND | {"label": "packed", "steps": 100}
CLEAR = BEHIND | {"model": "nano", "step": 1}
PUBLISHED = BEHIND | {"quantity": "whole encrypted training step", "published_setting": "theirs", "our_setting": "ours"}
CLAIM = BEHIND | {"claim": "a block at 2,048 tokens", "target": "<= 0.2", "verdict": "MISSED", "disturbed": "a neighbour"}
VIEW = BEHIND | {"backend": "packed", "encrypted_matmuls": 5, "commonest_token_percent": 6.25, "chance_percent": 0.01}

# Answer, lines of tables, column of the first table's first line, and another value for it.
CASES = [
    (learning.learned, {"knowledge": [KNOWLEDGE]}, "exact_match_after_percent", 95.75),
    (learning.learned, {"knowledge": [KNOWLEDGE]}, "exact_match_after_percent_low", 86.25),
    (learning.learned, {"knowledge": [KNOWLEDGE]}, "encrypted_matmuls", 12_345),
    (learning.learned, {"knowledge": [KNOWLEDGE]}, "guessing_percent", 33.25),
    (learning.forgot, {"knowledge": [KNOWLEDGE]}, "unrehearsed_loss_change_percent_mean", 2.25),
    (learning.converges, {"final_loss": [SWEEP]}, "ratio_to_float_mean", 1.0425),
    (learning.bits, {"final_loss": [SWEEP]}, "activation_bits", 12),
    (encryption.exact, {"packed_training": [PACKED | {"steps_equal_to_integer": 100}]}, "steps_equal_to_integer", 98),
    (encryption.published_scheme, {"encrypted_vs_clear": [CLEAR | {"label": "glwe", "loss_minus_integer": 0.0125}]},
     "loss_minus_integer", 0.75),
    (encryption.inflation, {"gradient_inflation": [INFLATION | {"grad_norm_over_float_mean": 756.25}]},
     "grad_norm_over_float_mean", 3.25),
    (encryption.seen, {"worker_view": [VIEW | {"recovered_percent": 0.25}]}, "recovered_percent", 75),
    (encryption.security, {"encryption_counters": [COUNTERS]}, "security_bits", 80),
    (time.step, {"full_step": [STEP]}, "step_time_s_median", 59.75),
    (time.step, {"full_step": [STEP]}, "step_time_over_integer", 3.375),
    (time.step, {"full_step": [STEP]}, "step_time_over_bf16", 5.125),
    (time.operations, {"full_step": [STEP]}, "encrypt_s", 9.75),
    (time.products, {"block_latency": [BLOCK]}, "server_over_float32_median", 2.125),
    (time.products, {"block_latency": [BLOCK]}, "client_over_int8_median", 4.375),
    (time.layer, {"layer": [LAYER | {"value_median": 1.625, "median_over_plaintext_float": 7147.5}]}, "value_median", 2.75),
    (time.whole_runs, {"encryption_counters": [COUNTERS | {"matmul_time_s": 353.25, "total_time_s": 359.5}]},
     "matmul_time_s", 12.25),
    (cost.traffic, {"full_step": [STEP]}, "upload_bytes_per_token", 2_222_222),
    (cost.links, {"step_cost": COSTS}, "step_time_s", 98.5),
    (cost.money, {"step_cost": COSTS}, "money_per_million_tokens", 2.625),
    (cost.workers, {"loopback": [LOOPBACK | {"step_time_s_median": 3.125}]}, "step_time_s_median", 4.625),
    (cost.generated, {"generation": [TOKEN | {"token_time_s_median": 0.125}]}, "token_time_s_median", 0.375),
    (cost.memory, {"client_memory": [MEMORY | {"client_peak_MB": 980.5}]}, "client_peak_MB", 11_087),
    (cost.predictions, {"full_step": [STEP]}, "prediction_error_percent", -21.25),
    (paper.published, {"published_comparison": [PUBLISHED | {"published": 54.25, "ours": 0.0858}]}, "ours", 0.125),
]  # fmt: skip


def tables_of(directory, lines: dict) -> Tables:
    for name, rows in lines.items():
        pd.DataFrame(rows).to_csv(directory / f"{name}.csv", index=False)
    return Tables(directory, lines)


def said(answer: Answer) -> str:
    return " ".join(sentence.text for sentence in (answer.sentence, *answer.more))


@pytest.mark.parametrize(("function", "lines", "column", "other"), CASES)
def test_a_sentence_says_the_cell_and_changes_with_it(tmp_path, function, lines, column, other):
    (name, rows), *_ = lines.items()
    before = text_of(column, rows[0][column])
    answer = function(tables_of(tmp_path, lines))
    assert before.lstrip("-") in answer.sentence.text
    assert answer.sentence.lines == () or answer.sentence.lines[0].table == name
    changed = function(tables_of(tmp_path, {name: [rows[0] | {column: other}, *rows[1:]]}))
    assert text_of(column, other) in changed.sentence.text
    assert changed.sentence.text != answer.sentence.text


@pytest.mark.parametrize("part", [part for question in QUESTIONS for part in question.parts], ids=lambda part: part.key)
def test_without_a_line_there_is_no_answer(tmp_path, part):
    assert part.answer(Tables(tmp_path, PUBLISHED_TABLES)) is None


def test_every_question_names_known_tables_and_figures_or_such_as_may_come():
    parts = [part for question in QUESTIONS for part in question.parts]
    coming = {"equal_batch", "worker_view", "estimate_errors"}
    assert {name for part in parts for name in part.figures} - set(PUBLISHED_FIGURES) <= coming
    assert {name for part in parts for name in part.tables} - set(PUBLISHED_TABLES) <= coming
    assert len({part.key for part in parts}) == len(parts) and set(OPENING) <= {part.key for part in parts}


def test_a_model_that_learned_nothing_is_a_no(tmp_path):
    ends = {"exact_match_after_percent": 13.0, "exact_match_after_percent_low": 10.0, "exact_match_after_percent_high": 16.0}
    assert learning.learned(tables_of(tmp_path, {"knowledge": [KNOWLEDGE]})).sentence.text.startswith("Yes. ")
    assert learning.learned(tables_of(tmp_path, {"knowledge": [KNOWLEDGE | ends]})).sentence.text.startswith("No. ")


def test_an_encrypted_run_stands_before_clear_ones_of_more_questions(tmp_path):
    clear = KNOWLEDGE | {"backend": "integer", "encrypted_matmuls": 0, "questions": 1500, "exact_match_after_percent": 93.75}
    answer = learning.learned(tables_of(tmp_path, {"knowledge": [clear, KNOWLEDGE]}))
    assert "under `packed`, 8 bits, with all 86,700 remote products encrypted" in answer.sentence.text
    assert "In the clear: `integer`, 8 bits 93.75 % (88.50 to 93.50)." in answer.sentence.text


def test_a_model_of_this_project_is_called_no_real_one(tmp_path):
    text = learning.learned(tables_of(tmp_path, {"knowledge": [KNOWLEDGE | {"model": "mini-llama"}]})).sentence.text
    assert "no real LLM" in text


def test_a_failed_seed_is_not_convergence(tmp_path):
    failed = SWEEP | {"n_ok": 1, "status": "1 of 2 diverged"}
    assert learning.converges(tables_of(tmp_path, {"final_loss": [SWEEP]})).sentence.text.startswith("Yes.")
    answer = learning.converges(tables_of(tmp_path, {"final_loss": [failed]}))
    assert answer.sentence.text.startswith("No.") and "1 run of 2 diverged" in said(answer)
    assert "none that was run" in learning.bits(tables_of(tmp_path, {"final_loss": [failed]})).sentence.text


def test_enough_bits_are_enough_from_there_on(tmp_path):
    widths = {4: 1.2, 6: 1.005, 8: 1.02, 12: 1.001, 16: 1.0}
    rows = [SWEEP | {"activation_bits": bits, "ratio_to_float_mean": ratio} for bits, ratio in widths.items()]
    assert "DTok-SC: 12 on `mini-llama`" in learning.bits(tables_of(tmp_path, {"final_loss": rows})).sentence.text


def test_a_ratio_over_float32_has_the_others_beside_it(tmp_path):
    text = time.step(tables_of(tmp_path, {"full_step": [STEP]})).sentence.text
    assert text.index("times float32") < text.index("times integers in the clear") < text.index("times bf16")
    without = STEP | {"step_time_over_bf16": None}
    assert "bf16 not measured" in time.step(tables_of(tmp_path, {"full_step": [without]})).sentence.text
    products = time.products(tables_of(tmp_path, {"block_latency": [BLOCK]})).sentence.text
    assert products.count("times int8") == 2 and products.count("bf16 not measured") == 2


def test_no_gpu_row_is_one_sentence_until_there_is_one(tmp_path):
    cpu, cuda = (LAYER | {"device": device, "machine": f"a {device}"} for device in ("cpu", "cuda"))
    assert said(time.gpu(tables_of(tmp_path, {"layer": [cpu]}))) == "No row is measured on a GPU."
    assert said(time.gpu(tables_of(tmp_path, {"layer": [cpu, cuda]}))) == "1 line of measurements on a GPU: a cuda."


def test_a_text_is_first_said_with_its_prompt_and_pads(tmp_path):
    line = TOKEN | {"token_time_s_median": 0.125, "token_time_over_integer": 1.0, "text_s_per_token": 0.25}
    text = cost.generated(tables_of(tmp_path, {"generation": [line | {"text_time_over_integer": 1.75}]})).sentence.text
    assert text.index("0.2500 s a token, prompt and pads included (1.7500 times integers") < text.index("0.1250 s for a token")


def outsourced(tmp_path, **changed):
    """The answer on a client alone and one with a worker, whose line has other values."""
    step = BEHIND | {"model": "nano", "blocks": 1, "model_blocks": 1, "tokens": 64, "disturbed": None, "client_peak_MB": 900.0}
    alone = step | {"way": "int4", "workers": 0, "client_cpu_s_per_token": 0.25, "wall_s_per_token": 0.5}
    remote = step | {"way": "packed", "workers": 1, "client_cpu_s_per_token": 0.5, "wall_s_per_token": 1.5}
    return cost.outsourcing(tables_of(tmp_path, {"alone_or_outsourced": [alone, remote | changed]}))


def test_outsourcing_pays_only_where_a_worker_takes_less_than_the_best_way_alone(tmp_path):
    never = outsourced(tmp_path)
    assert never.sentence.text.startswith("No: in none")
    assert "with a worker 0.5000 (`packed`), alone 0.2500 (int4)" in said(never)
    once = outsourced(tmp_path, client_cpu_s_per_token=0.125).sentence.text
    assert once.startswith("In 1 of 3 comparisons (the client's CPU")
    assert outsourced(tmp_path, disturbed="a neighbour", client_cpu_s_per_token=0.125) is None


def test_memory_in_bf16_and_integers_stands_beside_the_client(tmp_path):
    clear = STEP | {"model": "nano", "backend": "integer", "encrypted_matmuls": 0, "peak_memory_bytes": 5e8}
    line = MEMORY | {"client_peak_MB": 980.5, "tokens_per_step": 2048}
    text = cost.memory(tables_of(tmp_path, {"client_memory": [line], "full_step": [clear]})).sentence.text
    assert "integers in the clear 500 MB" in text and "bf16 not measured" in text and "int8" not in text


def test_a_loss_that_moved_is_not_called_nothing(tmp_path):
    lines = {"packed_training": [PACKED | {"steps_equal_to_integer": 99}]}
    assert encryption.exact(tables_of(tmp_path, lines)).sentence.text.startswith("Something, ")


def test_what_failed_lists_every_miss_and_every_run_that_did_not_end_well(tmp_path):
    runs = [{"run_id": "one", "status": "ok"}, {"run_id": "two", "status": "diverged"}]
    claims = [
        CLAIM | {"value": 0.35},
        CLAIM | {"verdict": "FAILS", "claim": "4 bits", "value": 1.5},
        CLAIM | {"verdict": "met"},
    ]
    answer = failing.failed(tables_of(tmp_path, {"claims": claims, "runs": [BEHIND | run for run in runs]}))
    assert answer.sentence.text.startswith(
        "1 target missed and 1 met; 1 setting of bits and quantizer failed; 1 of 2 runs did not"
    )
    assert [sentence.text for sentence in answer.more] == [
        "MISSED: a block at 2,048 tokens: 0.3500, target <= 0.2.",
        "FAILS: 4 bits: 1.500, target <= 0.2.",
        "Run `two`: diverged.",
        "Disturbed in the table `claims`: 3 lines (a neighbour).",
    ]


def test_a_missed_ratio_over_float32_has_the_others_beside_it(tmp_path):
    names = (
        "a block: server over plaintext float32",
        "a block: server over plaintext int8",
        "a block: server over plaintext bf16",
    )
    values = (2.125, 12.5, None)
    lines = [CLAIM | {"claim": name, "value": value} for name, value in zip(names, values, strict=True)]
    lines[1:] = [line | {"verdict": "no target"} for line in lines[1:]]
    other = lines[0] | {"value": 3.25}
    answer = failing.failed(tables_of(tmp_path, {"claims": [*lines, other]}))
    assert answer.more[0].text == f"MISSED: {names[0]}: 2.125, target <= 0.2 (over int8 12.50)."
    assert answer.more[1].text == f"MISSED: {names[0]}: 3.250, target <= 0.2."


def test_of_published_quantities_measured_ones_stand_first(tmp_path):
    simulated = PUBLISHED | {"published": 1.5, "ours": 7.125, "basis": "simulated"}
    measured = PUBLISHED | {"published": 1.5, "ours": 2.25, "ratio_ours_to_published": 1.5}
    missing = PUBLISHED | {"quantity": "a token", "published": 300, "ours": None, "basis": None}
    answer = paper.published(tables_of(tmp_path, {"published_comparison": [simulated, measured, missing]}))
    assert "here 2.250 [ours]: 1.5000 times the published one" in answer.sentence.text
    assert answer.more[-1].text == "Published, and not run here: a token (theirs)."
