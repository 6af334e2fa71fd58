"""Tables say what the rows say: spreads, pairing by seed, failures, published rows. All rows are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_estimate import estimate_rows
from synthetic_generation import generation_rows
from synthetic_inflation import probed_rows
from synthetic_knowledge import knowledge_rows, through_workers
from synthetic_loopback import LINK, ONE, alone_rows, network_rows, network_run
from synthetic_overflow import overflow_rows
from synthetic_results import (
    MET,
    block_rows,
    encrypted_rows,
    full_size_rows,
    inflation_rows,
    layer_rows,
    packed_rows,
    run_rows,
    sweep_rows,
    write_results,
)
from synthetic_worker_view import view_rows

from private_lora.core.errors import UserError
from private_lora.publish.figures import FIGURES
from private_lora.publish.tables import TABLES, make_table
from private_lora.publish.tables.render import escape_tex, format_cell, to_html, to_markdown, to_tex
from private_lora.results.reader import Data

BASES = ("measured", "simulated", "extrapolated", "published")
SMALL = {"bits": (4, 8), "models": ("mini-llama",)}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Data:
    """Made-up results of every stage."""
    rows = sweep_rows() + encrypted_rows() + inflation_rows() + packed_rows() + full_size_rows()
    rows += knowledge_rows(steps=8) + overflow_rows() + probed_rows()
    loopback = network_rows() + through_workers(steps=8) + alone_rows()
    # One on the machine of the made-up products, which a prediction stands beside.
    remote = network_run("2 shards", workers=2, columns={"model": ONE, "dataset": "random_tokens"}, evaluations=(), **LINK)
    loopback += [row | {"machine": ""} for row in remote]
    others = {"block": block_rows(ratios=MET), "loopback": loopback, "generation": generation_rows()}
    others |= {"estimate": estimate_rows(), "worker_view": view_rows()}
    return Data(write_results(tmp_path_factory.mktemp("synthetic"), rows, **others))


def table(tmp_path, name: str, convergence=(), layer=(), published=False) -> pd.DataFrame:
    return TABLES[name](Data(write_results(tmp_path, list(convergence), list(layer), published)))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_prints_its_basis(synthetic, name):
    made = TABLES[name](synthetic)
    assert len(made)
    assert "basis" in made
    assert set(made["basis"]) <= {*BASES, "measured + simulated", "extrapolated + measured", ""}


@pytest.mark.parametrize("name", TABLES)
def test_no_rows_make_an_empty_table_and_no_exception(tmp_path, name):
    make_table(name, write_results(tmp_path, [], [], published=False), tmp_path / f"{name}.csv")
    for suffix in ("csv", "md", "tex", "html"):
        assert (tmp_path / f"{name}.{suffix}").stat().st_size > 0


def test_ratio_to_float_is_the_mean_of_per_seed_ratios(tmp_path):
    rows = run_rows("f0", 0.5, backend="float", seed=0) + run_rows("f1", 1.0, backend="float", seed=1)
    rows += run_rows("q0", 0.6, seed=0) + run_rows("q1", 1.1, seed=1)
    made = table(tmp_path, "final_loss", rows).set_index("quantizer")
    assert made.loc["DTok-SC", "ratio_to_float_mean"] == pytest.approx((1.2 + 1.1) / 2)
    assert made.loc["DTok-SC", "ratio_to_float_min"] == pytest.approx(1.1)
    assert made.loc["DTok-SC", "eval_loss_max"] == pytest.approx(1.1)
    assert made.loc["float", "ratio_to_float_mean"] == 1
    assert np.isnan(made.loc["float", "activation_bits"])


def test_a_diverged_seed_stays_in_the_count_and_shows(tmp_path):
    rows = run_rows("f0", 0.5, backend="float") + run_rows("f1", 0.5, backend="float", seed=1)
    rows += run_rows("q0", 0.5) + run_rows("q1", np.nan, seed=1)
    line = table(tmp_path, "final_loss", rows).set_index("quantizer").loc["DTok-SC"]
    assert (line["n_requested"], line["n_ok"]) == (2, 1)
    assert line["status"] == "diverged (1 of 2)"
    assert line["eval_loss_mean"] == pytest.approx(0.5)


def test_ending_above_the_start_is_divergence(tmp_path):
    rows = run_rows("f0", 0.5, backend="float") + run_rows("q0", 4.0)
    assert table(tmp_path, "runs", rows).set_index("run_id").loc["q0", "status"] == "diverged"


def test_a_run_that_stopped_early_lends_no_final_loss(tmp_path):
    rows = run_rows("f0", 0.5, backend="float") + run_rows("q0", 0.5, steps=20, requested=40)
    line = table(tmp_path, "final_loss", rows).set_index("quantizer").loc["DTok-SC"]
    assert np.isnan(line["eval_loss_mean"])
    assert line["status"] == "stopped early (1 of 1)"


def test_a_run_that_was_asked_for_fewer_steps_than_others_is_finished(tmp_path):
    rows = run_rows("f0", 0.5, backend="float") + run_rows("q0", 0.6) + run_rows("q1", 0.7, steps=20, activation_bits=4)
    before_it_was_recorded = [r for r in rows if r["metric"] != "requested_steps"]
    for part, kind in ((rows, "new"), (before_it_was_recorded, "old")):
        line = table(tmp_path / kind, "final_loss", part).set_index("activation_bits").loc[4.0]
        assert (line["status"], line["n_ok"], line["steps"], line["eval_loss_mean"]) == ("ok", 1, 20, 0.7)
        # A float run of another length is nothing to divide by.
        assert np.isnan(line["ratio_to_float_mean"]) and line["run_ids"] == "q1"


def test_an_old_run_without_an_evaluation_at_its_end_stopped_early(tmp_path):
    rows = [r for r in run_rows("q0", 0.5) if r["metric"] != "requested_steps"]
    rows = [r for r in rows if not (r["phase"] == "eval" and r["step"] == 40)]
    assert table(tmp_path, "final_loss", rows)["status"].tolist() == ["stopped early (1 of 1)"]


def test_a_shorter_group_with_a_variant_is_a_study_of_its_own(tmp_path):
    rows = run_rows("f0", 0.5, backend="float") + run_rows("q0", 0.6) + run_rows("q1", 0.7, steps=20, variant="short texts")
    made = table(tmp_path, "final_loss", rows).set_index("variant")
    line = made.loc["short texts"]
    assert (line["status"], line["eval_loss_mean"]) == ("ok", 0.7)
    assert np.isnan(line["ratio_to_float_mean"])


def test_losses_without_padding_stand_beside_where_there_are_any(tmp_path):
    plain, counted = run_rows("q0", 0.6), run_rows("q1", 0.3, variant="padding counted")
    kept = ("loss_without_padding", "perplexity_without_padding")
    assert not set(kept) & set(table(tmp_path, "final_loss", plain))
    steps = [r for r in counted if (r["phase"], r["metric"]) == ("eval", "loss")]
    extra = [r | {"metric": m, "value": r["step"] + i} for r in steps for i, m in enumerate(kept)]
    made = table(tmp_path, "final_loss", plain + counted + extra).set_index("variant")
    assert made.loc["padding counted", list(kept)].tolist() == [40, 41]
    assert made.loc["", list(kept)].isna().all()
    rows = [r | {"activation_bits": 7, "weight_bits": 7} for r in plain + counted + extra]
    beside = table(tmp_path, "published_comparison", rows, published=True)
    said = beside.loc[beside["quantity"] == "test perplexity after training", "differences"]
    assert ["padding counted; " in text for text in said] == [False, True]
    assert ["padding not counted; " in text for text in said] == [True, False]


def test_failed_rows_without_values_are_listed(tmp_path):
    row = run_rows("q0")[0] | {"value": "", "status": "failed", "phase": "eval", "metric": "loss"}
    made = table(tmp_path, "final_loss", [*run_rows("f0", backend="float"), row])
    assert made.set_index("quantizer").loc["DTok-SC", "status"] == "failed (1 of 1)"


def test_encrypted_steps_stand_beside_integer_and_the_published_five(tmp_path):
    made = table(tmp_path, "encrypted_vs_clear", encrypted_rows(), published=True)
    glwe = made[(made["label"] == "glwe") & (made["step"] == 1)].iloc[0]
    assert glwe["loss_minus_integer"] != 0
    assert glwe["grad_norm_over_integer"] == pytest.approx(1.012)
    published = made[made["basis"] == "published"]
    assert len(published) == 10
    assert (published["certainty"] != "").all() and (published["source"] != "").all()
    assert published["grad_norm_over_integer"].dropna().tolist() == [14.2]


def test_latency_ratio_is_over_the_plaintext_product_of_the_same_shape(tmp_path):
    made = table(tmp_path, "layer", layer=layer_rows(("2x256x512",)))
    line = made[(made["backend"] == "glwe") & (made["metric"] == "matmul_time_s")].iloc[0]
    assert line["n_ok"] == 3
    assert line["median_over_plaintext_float"] == pytest.approx(4e-3 / (1e-10 * 256))
    assert line["per_output_value"] == pytest.approx(4e-3 * 1.1)
    total = made[(made["backend"] == "glwe") & (made["metric"] == "total_time_s")].iloc[0]
    assert total["value_median"] == pytest.approx(line["value_median"] + 2 * (5e-4 + 3.5e-4) * 1.1)


def test_latency_in_bf16_is_no_float32_and_one_of_another_machine_is_no_twin(tmp_path):
    rows = layer_rows(("2x256x512",))
    plain = [row for row in rows if row["backend"] == "float"]
    half = [r | {"options": '{"dtype":"bfloat16"}', "run_id": f"half-{r['run_id']}"} for r in plain]
    half = [r | {"value": r["value"] / 2} if r["metric"].endswith("time_s") else r for r in half]
    made = table(tmp_path, "layer", layer=half + rows)
    glwe = made[(made["backend"] == "glwe") & (made["metric"] == "matmul_time_s")].iloc[0]
    assert glwe["median_over_bf16"] == pytest.approx(2 * glwe["median_over_plaintext_float"])
    elsewhere = table(tmp_path, "layer", layer=[r | {"machine": "there"} for r in half] + rows)
    assert elsewhere["median_over_bf16"].dropna().empty or set(elsewhere["backend"][elsewhere["median_over_bf16"].notna()]) == {
        "float"
    }


def test_latency_without_a_float_twin_has_no_ratio(tmp_path):
    rows = [r for r in layer_rows(("2x256x512",)) if r["backend"] == "glwe"]
    assert table(tmp_path, "layer", layer=rows)["median_over_plaintext_float"].isna().all()


def test_comparison_carries_source_certainty_and_differences(synthetic):
    made = TABLES["published_comparison"](synthetic)
    assert (made[["certainty", "source"]] != "").all(axis=None)
    assert (made.loc[made["ours"].notna(), "differences"] != "").all()
    line = made[(made["published_setting"] == "8-bit ST-ST") & made["our_setting"].str.startswith("mini-llama,")]
    assert line["published"].iloc[0] == pytest.approx(2.1290 / 0.2670)
    assert not made["source"].str.contains("same").any()


def test_comparison_keeps_published_numbers_without_a_counterpart(tmp_path):
    made = table(tmp_path, "published_comparison", published=True)
    assert made["ours"].isna().all()
    assert {"Llama-3.2-1B step, 64 tokens, FHE, CPU", "GPT-2 token, CPU"} <= set(made["published_setting"])


def test_counters_compare_measured_noise_with_the_simulated_twin(tmp_path):
    made = table(tmp_path, "encryption_counters", encrypted_rows())
    exact = made[(made["backend"] == "glwe") & (made["constant_rows"] == "exact")].iloc[0]
    assert exact["noise_std_over_simulated"] == pytest.approx(18.6 / 19.0)
    assert exact["step_time_s_per_train_token"] == pytest.approx(0.5 * 5 / 61)
    assert exact["matmul_ms_per_value"] == pytest.approx(1e3 * 42.0 / 4096)
    assert made.loc[made["backend"] == "glwe_simulated", "matmul_ms_per_value"].isna().all()
    assert set(made["backend"]) == {"glwe", "glwe_simulated", "concrete_ml"}


def test_concrete_ml_stands_beside_the_integers_of_its_quantizer_with_exact_rows_first(tmp_path):
    keys = {"stage": "encrypted", "activation_bits": 7, "weight_bits": 7, "steps": 1}
    rows = [r for name in ("reference", "exact") for r in run_rows(f"integer-{name}", constant_rows=name, **keys)]
    rows += run_rows("cml", backend="concrete_ml", variant="execute", constant_rows="reference", **keys)
    made = table(tmp_path, "encrypted_vs_clear", rows)
    assert made.loc[made["run_ids"].str.startswith("cml"), "run_ids"].tolist() == ["cml integer-exact"]


def test_inflation_lists_the_real_scheme_beside_the_simulated_one(tmp_path):
    made = table(tmp_path, "gradient_inflation", encrypted_rows() + inflation_rows())
    reference = made[made["constant_rows"] == "reference"].set_index("backend")
    assert reference.loc["glwe_simulated", "grad_norm_over_float_mean"] == pytest.approx(1600, rel=1e-6)
    assert reference.loc["glwe", "basis"] == "measured"


def test_claims_are_met_by_rows_that_meet_them(synthetic):
    made = TABLES["claims"](synthetic).set_index("claim")["verdict"]
    # These steps were not made up to cost what these products do.
    made = made[~made.index.str.startswith(("cost model", "packed, generated texts"))]
    assert "MISSED" not in set(made)
    assert (made == "met").sum() >= 11
    assert (made == "FAILS").sum() >= 2


def test_claims_do_not_hide_a_miss(tmp_path):
    rows = sweep_rows((8,), models=("mini-llama",))
    rows = [r for r in rows if "DTok-SC" not in r["run_id"]] + run_rows("bad", 0.6)
    made = table(tmp_path, "claims", rows).set_index("claim")
    assert (
        made.loc[made.index.str.startswith("8-bit per-token") & made.index.str.contains("mini-llama:"), "verdict"][0]
        == "MISSED"
    )
    assert "no data" in set(made["verdict"])


def test_a_diverged_seed_misses_a_claim(tmp_path):
    rows = sweep_rows((16,), models=("mini-llama",), seeds=(0,)) + run_rows("f1", backend="float", seed=1)
    rows += run_rows("bad", np.nan, seed=1, activation_bits=16, weight_bits=16)
    made = table(tmp_path, "claims", rows).set_index("claim")
    verdicts = made.loc[made.index.str.startswith("16-bit per-token") & (made["target"] != "none"), "verdict"]
    assert verdicts.tolist() == ["MISSED"]
    failing = made[made["verdict"] == "FAILS"]
    assert failing["detail"].str.contains("diverged").any()


def test_an_accumulator_off_by_the_range_is_an_overflow(tmp_path):
    rows = [r | {"value": 2.0**27} if r["metric"] == "accumulator_noise_max" else r for r in encrypted_rows()]
    made = table(tmp_path, "claims", rows).set_index("claim")
    assert made.loc[made.index.str.startswith("runs with an overflow"), "verdict"].tolist() == ["MISSED"]


def test_another_backend_in_the_sweep_is_no_claim_on_quantizers_and_no_part_of_their_lines(tmp_path):
    rows = sweep_rows(**SMALL)
    others = [
        row | {"backend": "packed_approx", "run_id": f"other {row['run_id']}", "value": 2 * float(row["value"])}
        for row in sweep_rows(**SMALL)
        if row["backend"] == "integer" and row["metric"] == "loss"
    ]
    (tmp_path / "with").mkdir()
    claimed = [table(tmp_path / name, "claims", found) for name, found in (("", rows), ("with", rows + others))]
    claimed = [lines[lines["verdict"].isin(["met", "MISSED"])].reset_index(drop=True) for lines in claimed]
    pd.testing.assert_frame_equal(*claimed)
    assert len(claimed[0])
    _, points = FIGURES["final_loss_vs_bits"](Data(write_results(tmp_path, rows + others, [], published=False)))
    lines = points.groupby("series")["run_ids"].agg(" ".join)
    assert {"DTok-SC", "DTok-SC, packed_approx"} <= set(lines.index)
    assert "other" not in lines["DTok-SC"]


def test_claims_are_written_for_reading_too(tmp_path):
    make_table("claims", write_results(tmp_path, sweep_rows(**SMALL), []), tmp_path / "claims.csv")
    assert "| verdict |" in (tmp_path / "claims.md").read_text()
    assert (tmp_path / "claims.tex").is_file()


def test_unknown_table_and_missing_directory_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="known are knowledge, answers, claims"):
        make_table("nonsense", tmp_path, tmp_path / "x.csv")
    with pytest.raises(UserError, match="no result directory"):
        Data(tmp_path / "absent")


def test_a_file_with_missing_columns_is_refused(tmp_path):
    data = write_results(tmp_path, [], [])
    (data / "convergence.csv").write_text("schema_version,run_id,stage\n")
    with pytest.raises(UserError, match="no column 'model'"):
        _ = Data(data).convergence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (1168.4, "1168"),
        (134217728.0, "134,217,728"),
        (8.0, "8"),
        (np.nan, ""),
        ("a", "a"),
        (4.4e-05, "4.4e-05"),
        (float("inf"), "inf"),
        (True, "True"),
    ],
)
def test_numbers_are_rounded_for_reading(value, text):
    assert format_cell(value) == text


def test_renderings_escape_what_their_format_would_interpret():
    made = pd.DataFrame({"a_b": ["50% & $x_1$ {y} | <b>"], "basis": ["measured"]})
    assert escape_tex("50% & a_b#{}~^\\") == (r"50\% \& a\_b\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}")
    assert r"\$x\_1\$" in to_tex(made) and "\\textbar{}" in to_tex(made)
    assert r"\| <b>" in to_markdown(made)
    assert "&lt;b&gt;" in to_html(made, "t")


def test_csv_keeps_raw_numbers_where_markdown_shows_the_spread(tmp_path):
    data = write_results(tmp_path, sweep_rows(**SMALL), [])
    make_table("final_loss", data, tmp_path / "final_loss.csv")
    raw = pd.read_csv(tmp_path / "final_loss.csv")
    assert {"eval_loss_mean", "eval_loss_min", "eval_loss_max"} <= set(raw)
    assert "0.5050 [0.5000, 0.5100]" in (tmp_path / "final_loss.md").read_text()


@pytest.mark.parametrize(
    ("text", "is_number"), [("8-bit", False), ("2 shards", False), ("", False), ("1,234", True), ("-0.5 [-1, 2]", True)]
)
def test_only_numbers_stand_at_the_right_of_their_column(text, is_number):
    made = to_html(pd.DataFrame({"x": [text], "basis": ["measured"]}), "title")
    assert (f'<td class="n">{text}</td>' in made) == is_number
