"""Tables, claims and figure of runs through workers say what the rows say. All rows are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_loopback import LINK, LOSSES, MINI, ONE, network_rows, network_run
from synthetic_results import full_size_rows, records, write_results

from private_lora.models.shapes import architecture_of
from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import plt
from private_lora.publish.tables import TABLES
from private_lora.publish.tables.loopback import in_process_twin, network_runs
from private_lora.results.reader import Data

EQUAL = ["steps_equal_to_in_process", "evaluations_equal_to_in_process"]


def data(tmp_path, rows=None, convergence=()) -> Data:
    rows = network_rows() if rows is None else rows
    return Data(write_results(tmp_path, list(convergence), [], published=False, loopback=rows))


def network(tmp_path, rows=None) -> pd.DataFrame:
    table = TABLES["loopback"](data(tmp_path, rows))
    return table[table["model"] == MINI].set_index("arrangement")


def claims(tmp_path, rows=None, convergence=None) -> pd.DataFrame:
    convergence = full_size_rows() if convergence is None else convergence
    found = TABLES["claims"](data(tmp_path, rows, convergence)).set_index("claim")
    return found[found.index.str.contains("through workers|through honest workers")]


def test_every_run_stands_beside_the_one_in_process(tmp_path):
    table = network(tmp_path)
    assert list(table.index) == ["in process", "1 worker", "2 shards and a replica", "2 shards over 1 Gbit/s"]
    assert table.loc["1 worker", ["steps", *EQUAL, "evaluations"]].tolist() == [2, 2, 2, 2]
    assert table.loc["in process", EQUAL].isna().all()
    assert table["step_time_over_in_process"].tolist() == pytest.approx([np.nan, 3.5, 3.5, 3.5], nan_ok=True)
    worker = table.loc["1 worker"]
    assert (worker["workers"], worker["tls"], worker["round_trips"], worker["retries"]) == (1, "yes", 142, 0)
    assert (worker["sent_MB"], worker["received_MB"], worker["messages_over_interface_percent"]) == (99, 396, 99)
    assert (worker["client_peak_MB"], worker["largest_worker_MB"]) == (700, 600)
    stages = ["quantize_s", "encrypt_s", "server_s", "network_tls_framing_s", "decrypt_s", "verify_s"]
    assert worker[stages].tolist() == [0.1, 0.5, 2.0, 1.0, 0.4, 0.25]


def test_steps_stand_beside_those_in_the_clear_in_process(tmp_path):
    names = ("activation_quantizer", "weight_quantizer", "constant_rows", "activation_bits", "weight_bits")
    clear = {"integer": {}, "float": dict.fromkeys(names, "")}
    rows = network_run("1 worker")
    for backend, variant, options, seconds in (
        ("float", "in process", "", 0.25),
        ("float", "bf16 in process", '{"dtype":"bfloat16"}', 0.125),
        ("integer", "in process", "", 0.5),
    ):
        run = network_run(variant, columns=clear[backend] | {"backend": backend, "options": options})
        rows += [row | ({"value": seconds} if row["metric"] == "step_time_s" else {}) for row in run]
    table = TABLES["loopback"](data(tmp_path, rows)).set_index("arrangement")
    ratios = [f"step_time_over_{name}" for name in ("float32", "integer", "bf16")]
    assert table.loc["1 worker", ratios].tolist() == [7.0, 3.5, 14.0]
    assert table.loc["bf16 in process", ratios].fillna(0).tolist() == [0.5, 0.25, 0]
    assert len(table.loc["1 worker", "run_ids"].split()) == 4
    assert np.isnan(table.loc["1 worker", "step_time_over_in_process"])


def test_a_link_is_named_and_its_run_has_no_share_of_the_interface(tmp_path):
    table = network(tmp_path)
    assert table["link"].tolist() == ["in process", "loopback", "loopback", "1 Gbit/s, 0.5 ms"]
    assert table["messages_over_interface_percent"].isna().tolist() == [True, False, False, True]
    # Of a link without a rate the rows say `inf`.
    rows = network_run("slow", **(LINK | {"link_bandwidth_bits_per_s": np.inf, "link_latency_s": 0.04}))
    rows += network_run("narrow", **(LINK | {"link_bandwidth_bits_per_s": 1e8, "link_latency_s": 0}))
    assert network(tmp_path, rows)["link"].tolist() == ["40 ms", "100 Mbit/s"]


def test_overlapping_questions_have_no_time_of_the_network_alone(tmp_path):
    table = network(tmp_path)
    assert np.isnan(table.loc["2 shards and a replica", "network_tls_framing_s"])
    assert table.loc["2 shards and a replica", "wait_s"] == 3


def test_one_loss_in_the_last_bit_is_seen(tmp_path):
    loss = 5.0283196711454625
    other = float(np.nextafter(loss, 9))
    # Next to each other, and one number to pandas' own conversion.
    rows = network_run("in process", losses=(LOSSES[0], loss)) + network_run("1 worker", losses=(LOSSES[0], other))
    assert network(tmp_path, rows).loc["1 worker", EQUAL].tolist() == [1, 2]
    verdicts = claims(tmp_path, rows)
    assert verdicts["verdict"].iloc[0] == "MISSED"
    assert verdicts["value"].iloc[0] == 1


def test_another_evaluation_is_seen(tmp_path):
    rows = network_run("in process") + network_run("1 worker", evaluations=(5.9, 4.75))
    assert network(tmp_path, rows).loc["1 worker", EQUAL].tolist() == [2, 1]
    assert claims(tmp_path, rows)["verdict"].iloc[0] == "MISSED"


@pytest.mark.parametrize(
    ("columns", "metrics"),
    [
        ({"seed": 1}, {}),
        ({"machine": "there"}, {}),
        ({"activation_bits": 4, "weight_bits": 4}, {}),
        ({"backend": "integer"}, {}),
        ({}, {"step_tokens": 512}),
        ({}, {"share_inputs": 0}),
        ({}, {"blocks": 1}),
    ],
)
def test_another_setting_in_process_is_no_twin(tmp_path, columns, metrics):
    rows = network_run("in process", columns=columns, **metrics) + network_run("1 worker")
    table = network(tmp_path, rows)
    assert table[[*EQUAL, "step_time_over_in_process"]].isna().all(axis=None)
    assert claims(tmp_path, rows)["verdict"].iloc[0] == "no data"


def test_another_length_in_process_is_no_twin(tmp_path):
    rows = network_run("in process", losses=(*LOSSES, 5.0)) + network_run("1 worker")
    assert network(tmp_path, rows)[EQUAL].isna().all(axis=None)


def test_groups_told_apart_by_their_variant_have_twins_of_their_own(tmp_path):
    names = ["in process", "long texts in process", "2 shards", "long texts 2 shards"]
    runs = network_runs(data(tmp_path, [row for name in names for row in network_run(name)]))
    twins = [in_process_twin(run, runs) for _, run in runs.iterrows()]
    assert [None if twin is None else twin["arrangement"] for twin in twins] == [None, None, *names[:2]]


def test_a_run_that_failed_is_listed_and_misses_the_claim(tmp_path):
    rows = network_run("in process") + network_run("1 worker", losses=LOSSES[:1], columns={"status": "failed"})
    assert network(tmp_path, rows)["status"].tolist() == ["ok", "failed"]
    assert claims(tmp_path, rows)["verdict"].iloc[0] == "MISSED"


def test_claims_are_met_by_rows_that_meet_them(tmp_path):
    found = claims(tmp_path)
    assert found["verdict"].tolist() == ["met"] * 4
    assert found["value"].tolist() == pytest.approx([0, 0.01, 0, 0.5])


@pytest.mark.parametrize(
    ("metrics", "missed"),
    [
        ({"interface_bytes": 510e6}, [1]),
        ({"interface_bytes": 470e6}, [1]),
        ({"rejected_answers": 1}, [2]),
        ({"peak_memory_bytes": 1.1e10}, [3]),
    ],
)
def test_a_missed_figure_is_printed_as_missed(tmp_path, metrics, missed):
    rows = network_rows() + network_run("1 worker", columns={"model": ONE}, **metrics)
    verdicts = claims(tmp_path, rows)["verdict"].tolist()
    assert [i for i, verdict in enumerate(verdicts) if verdict == "MISSED"] == missed


def test_memory_of_the_client_stands_beside_in_process_and_full_fine_tuning(tmp_path):
    table = TABLES["client_memory"](data(tmp_path, convergence=full_size_rows())).set_index("model")
    # The run in process stands in the stage itself, else in full_size; the larger of the runs through workers counts.
    assert table.loc[MINI, ["client_peak_MB", "in_process_peak_MB", "in_process_stage"]].tolist() == [750, 800, "loopback"]
    one, architecture = table.loc[ONE], architecture_of("Llama-3.2-1B")
    assert one[["client_peak_MB", "in_process_peak_MB", "client_over_in_process"]].tolist() == [5000, 10_000, 0.5]
    assert one["in_process_stage"].startswith("full_size")
    assert one["full_fine_tuning_MB"] == pytest.approx(16 * architecture.weights / 1e6)
    assert one["client_over_full_fine_tuning"] == pytest.approx(5e9 / (16 * architecture.weights))
    assert one["linear_weights_MB"] == pytest.approx(4 * architecture.remote_weights / 1e6)
    assert (one["linear_weights_in_client_MB"], one["full_fine_tuning_basis"], one["basis"]) == (0, "extrapolated", "measured")
    assert np.isnan(one["float_lora_peak_MB"])


def test_float_lora_is_taken_from_the_full_size_step(tmp_path):
    plain = {"backend": "float", "activation_bits": "", "weight_bits": ""}
    packed = [r for r in full_size_rows() if r["model"] == ONE and r["backend"] == "packed"]
    rows = packed + [r | plain | {"run_id": "full-float", "machine": "there"} for r in packed]
    for row in rows:
        row["value"] = 2e10 if row["backend"] == "float" and row["metric"] == "peak_memory_bytes" else row["value"]
    line = TABLES["client_memory"](data(tmp_path, convergence=rows)).set_index("model").loc[ONE]
    assert (line["float_lora_peak_MB"], line["float_lora_stage"]) == (20_000, "full_size, there")


def test_the_largest_batch_is_shown_and_nothing_made_up_for_an_unknown_model(tmp_path):
    rows = network_run("1 worker", step_tokens=512, peak_memory_bytes=9e8) + network_run("2 shards")
    rows = [row | {"model": "./models/own"} for row in rows]
    table = TABLES["client_memory"](data(tmp_path, rows))
    assert table[["tokens_per_step", "client_peak_MB"]].to_numpy().tolist() == [[1024, 700]]
    empty = ["in_process_peak_MB", "linear_weights_MB", "linear_weights_in_client_MB", "full_fine_tuning_MB"]
    assert table[empty].isna().all(axis=None)


def test_part_of_a_model_says_nothing_about_its_memory(tmp_path):
    assert not len(TABLES["client_memory"](data(tmp_path, network_run("1 worker", blocks=1))))


def test_bars_are_as_long_as_the_stages_together(tmp_path):
    figure, points = FIGURES["loopback_step"](data(tmp_path))
    mini = points[points["panel"] == f"{MINI}, here"]
    lengths = mini.groupby("x", sort=False)["y"].sum()
    assert lengths.to_dict() == pytest.approx(
        {"in process": 3.0, "1 worker": 4.25, "2 shards and a replica": 4.25, "2 shards over 1 Gbit/s": 10.25}
    )
    waits = mini[mini["series"].str.startswith("wait")].set_index("x")["y"]
    assert waits[waits > 0].to_dict() == {"2 shards and a replica": 3.0}
    assert len(figure.axes) == 2
    plt.close(figure)


def test_seeds_of_an_arrangement_are_bars_of_their_own(tmp_path):
    rows = [row for seed in (0, 1) for row in network_run("1 worker", columns={"seed": seed}, evaluations=())]
    figure, points = FIGURES["loopback_step"](data(tmp_path, rows))
    assert set(points["x"]) == {"1 worker, seed 0", "1 worker, seed 1"}
    assert figure.axes[0].get_title(loc="left").endswith("2 steps of 1,024 tokens (measured)")
    plt.close(figure)


def test_an_absent_file_is_no_data(tmp_path):
    found = data(tmp_path)
    (found.root / "loopback.csv").unlink()
    assert not len(TABLES["loopback"](found)) and not len(TABLES["client_memory"](found))
    figure, points = FIGURES["loopback_step"](found)
    assert not len(points) and figure.axes[0].texts[0].get_text() == "no data"
    plt.close(figure)


def test_runs_beside_the_studys_own_are_published_too(tmp_path):
    found = data(tmp_path, network_run("in process"))
    (found.root / "beside").mkdir()
    beside = [row | {"machine": "there"} for row in network_run("in process") + network_run("1 worker")]
    records(beside).to_csv(found.root / "beside" / "loopback.csv", index=False)
    lines = TABLES["loopback"](found)[["arrangement", "machine"]]
    assert lines.to_numpy().tolist() == [["in process", "here"], ["1 worker", "there"]]
