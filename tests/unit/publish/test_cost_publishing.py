"""Tables, claims and figures of full steps and predicted costs say what the rows say. All rows are made up."""

import numpy as np
import pytest
from synthetic_results import block_rows, full_size_rows, glwe_rows, write_results

from private_lora.models.shapes import architecture_of
from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import plt
from private_lora.publish.tables import TABLES
from private_lora.publish.tables.step_cost import memory
from private_lora.results.reader import Data

ONE = "Llama-3.2-1B"
TOKENS = ("tokens_published", "tokens_ours")


def data(tmp_path, convergence=None, block=None, published=False) -> Data:
    rows = full_size_rows() if convergence is None else convergence
    block = block_rows(glwe=False) + glwe_rows() if block is None else block
    return Data(write_results(tmp_path, rows, [], published, block=block))


def of(table, **columns):
    for name, value in columns.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def claims(tmp_path, *arguments):
    return TABLES["claims"](data(tmp_path, *arguments)).set_index("claim")


def test_stages_of_a_full_step_add_up(tmp_path):
    table = TABLES["full_step"](data(tmp_path))
    step = of(table, model=f"{ONE} (random weights)", backend="packed")
    stages = ["quantize_s", "encrypt_s", "server_s", "decrypt_s", "rest_s"]
    assert step[stages].tolist() == pytest.approx([4.0, 1.0, 16.0, 3.0, 11.0])
    assert sum(step[stages]) == pytest.approx(step["step_time_s_median"])
    assert step["step_times_s"] == "35, 35, 35"
    assert (step["upload_bytes_per_token"], step["download_bytes_per_token"]) == (3e6, 4e6)
    assert (step["steps"], step["steps_equal_to_integer"]) == (3, 3)
    assert abs(step["prediction_error_percent"]) < 10 and step["prediction_basis"] == "extrapolated"
    assert table.loc[table["blocks"] < table["model_blocks"], "predicted_step_time_s"].isna().all()
    assert table.loc[table["backend"] == "integer", "upload_bytes_per_token"].isna().all()


def test_a_step_cost_has_every_network_and_number_of_workers(tmp_path):
    table = TABLES["step_cost"](data(tmp_path))
    packed = table[(table["model"] == ONE) & (table["backend"] == "packed")]
    assert len(packed) == 9
    assert set(table["model"]) == {"GPT-2", ONE, "Qwen2.5-1.5B", "Llama-3.1-8B", "Llama-3.1-70B"}
    assert set(table["backend"]) == {"plaintext_float32", "packed", "packed_approx", "glwe"}
    assert set(table["basis"]) == {"extrapolated"}
    assert set(packed["products_basis"]) == {"measured"}
    parts = packed[["client_time_s", "server_time_s", "network_time_s", "handling_time_s"]].sum(axis=1)
    one, cut = packed["arrangement"].isin(["1 worker", "4 shards"]), packed["arrangement"].str.startswith("4 replicas")
    assert packed.loc[one, "step_time_s"].to_numpy() == pytest.approx(parts[one].to_numpy())
    assert (packed.loc[cut, "step_time_s"] < parts[cut]).all() and len(packed[cut]) == 3


def test_joint_inputs_are_shown_where_they_were_measured(tmp_path):
    joint = {"q+k+v": (2048, 3072), "o": (2048, 2048), "gate+up": (2048, 16_384), "down": (8192, 2048)}
    rows = block_rows(glwe=False) + [r | {"run_id": r["run_id"] + "-joint"} for r in block_rows((2048,), joint, glwe=False)]
    found = data(tmp_path, block=rows)
    table = TABLES["step_cost"](found)
    line = table[(table["model"] == ONE) & (table["backend"] == "packed")]
    assert (set(line["inputs"]), set(line["remote_calls_per_step"])) == ({"joint"}, {16 * 8 - 1, 16 * (16 * 8 - 1)})
    # A figure's line over all batches is one kind: more batches were measured apart.
    _, points = FIGURES["step_latency"](found)
    assert {s for s in points["series"] if s.startswith("packed,") and "full step" not in s} == {"packed, 8 bits, apart"}
    plt.close("all")


def test_the_clients_time_stands_over_the_plaintext_product(tmp_path):
    table = TABLES["client_economics"](data(tmp_path))
    line = of(table, model=ONE, backend="packed")
    # Median of 0.3 x 1, 0.35 x 3, 0.4 x 2 over that of 1, 3, 2.
    assert line["client_over_float32"] == pytest.approx(0.8 / 2)
    assert line["client_with_quantize_over_float32"] == pytest.approx(0.4 + 4.0 / line["plaintext_float32_time_s"])
    # Its int8 products take a quarter, and nothing was measured in bf16.
    assert line["client_over_int8"] == pytest.approx(4 * line["client_over_float32"])
    assert np.isnan(line["client_over_bf16"])
    assert table["weights"].is_monotonic_increasing
    notes = " ".join(table.attrs["notes"])
    assert "packed_approx, encrypt + decrypt + quantize: below the float32 product from Llama-3.2-1B on" in notes
    assert "glwe, encrypt + decrypt + quantize: not below the float32 product at any size here" in notes


def test_memory_is_arithmetic_from_the_architecture():
    one, found = architecture_of(ONE), memory(ONE, 8)
    adapter = 4 * 4 * one.adapter_weights(8)
    assert found["private_client_bytes"] == 4 * one.client_weights + adapter
    assert found["clear_lora_bytes"] - found["private_client_bytes"] == 4 * one.remote_weights
    assert found["full_fine_tuning_bytes"] == 16 * one.weights


def test_claims_are_met_by_rows_that_meet_them(tmp_path):
    found = claims(tmp_path)
    chosen = found[found.index.str.startswith((f"packed, full step of {ONE}", "cost model"))]
    targets = chosen[chosen["target"] != "none"]
    assert targets["verdict"].tolist() == ["met"] * 5 + ["no data"]  # the last: of a step over a link


@pytest.mark.parametrize(
    ("metric", "value", "missed"),
    [
        ("step_time_s", 241.0, ["seconds, slowest step", f"cost model, step of {ONE}", "cost model, step of mini-llama"]),
        ("peak_memory_bytes", 2.1e10, ["peak memory"]),
        ("loss", 1.0, ["differs from the integer run"]),
    ],
)
def test_a_missed_figure_is_printed_as_missed(tmp_path, metric, value, missed):
    rows = [
        r | {"value": value} if r["run_id"].endswith("packed-None") and r["metric"] == metric else r for r in full_size_rows()
    ]
    found = claims(tmp_path, rows)
    wrong = found.index[(found["verdict"] == "MISSED") & found.index.str.contains("full step|cost model")]
    assert len(wrong) == len(missed)
    assert all(wrong.str.contains(text).any() for text in missed)


def test_float32_and_bfloat16_are_two_backends_to_compare_with(tmp_path):
    rows = full_size_rows()
    model = f"{ONE} (random weights)"
    integer = [r for r in rows if r["run_id"] == f"full-{ONE}-random-weights-integer-None"]
    # The narrower one first: which is which is said by the options, not by the order.
    for seconds, variant, options in ((5.0, "bf16", '{"dtype":"bfloat16"}'), (10.0, "", "")):
        columns = {"run_id": f"full-float-{variant}", "backend": "float", "variant": variant, "options": options}
        columns |= {"activation_bits": "", "weight_bits": ""}
        rows += [r | columns | ({"value": seconds} if r["metric"] == "step_time_s" else {}) for r in integer]
    table = TABLES["full_step"](data(tmp_path, rows))
    packed, bf16 = of(table, model=model, backend="packed"), of(table, model=model, backend="float", variant="bf16")
    assert (packed["step_time_over_float32"], packed["step_time_over_bf16"]) == (3.5, 7.0)
    assert bf16["step_time_over_float32"] == 0.5 and np.isnan(bf16["step_time_over_bf16"])


def test_one_slow_step_is_enough_to_miss(tmp_path):
    rows = [dict(r) for r in full_size_rows()]
    slow = next(r for r in rows if r["run_id"] == f"full-{ONE}-random-weights-packed-None" and r["metric"] == "step_time_s")
    slow["value"] = 300.0
    found = claims(tmp_path, rows)
    assert set(found.loc[found.index.str.contains("slowest step"), "verdict"]) == {"MISSED"}
    assert set(found.loc[found.index.str.contains("cost model, step of"), "verdict"]) == {"met"}


def test_published_steps_and_traffic_stand_beside_measured_and_extrapolated_ones(tmp_path):
    table = TABLES["published_comparison"](data(tmp_path, published=True))
    steps = table[table["published_setting"].str.startswith("Llama-3.2-1B step, 64 tokens, 221")]
    measured = of(steps[steps["quantity"] == "whole encrypted training step"], basis="measured")
    assert (measured["published"], measured["ours"]) == (pytest.approx(3472 / 64), pytest.approx(35 / 2048))
    # At our tokens the published number is what it comes to there, and says so.
    assert (measured["tokens_published"], measured["tokens_ours"], measured["published_basis"]) == (2048, 2048, "extrapolated")
    whole = steps[steps["quantity"] == "whole encrypted training step"]
    near = whole[whole["tokens_ours"] == 512]  # the measured batch nearest to 64
    assert len(near) and set(near["tokens_published"]) == {64} and set(near["published_basis"]) == {"published"}
    assert table.loc[table["ratio_ours_to_published"].notna() & by_token(table), list(TOKENS)].notna().all(axis=None)
    settings = " ".join(steps.loc[steps["basis"] == "extrapolated", "our_setting"])
    assert "glwe" in settings and "packed" in settings
    traffic = table[table["quantity"] == "ciphertext traffic of a whole training step"]
    assert of(traffic, basis="measured")["ours"] == pytest.approx(7e6)
    assert "221 remote calls" in of(traffic, basis="measured")["published_setting"]
    gpt2 = table[table["published_setting"].str.startswith("GPT-2")]
    assert set(gpt2["quantity"]) == {"encrypted generation of a token"} and gpt2["ours"].isna().all()
    assert gpt2["not_checked"].str.contains("no training step").all()


def by_token(table):
    return table["normalisation"].str.startswith("per ")


def test_calls_that_share_an_input_are_not_divided_by_published_ones_of_each_layer(tmp_path):
    joint = {"q+k+v": (2048, 3072), "o": (2048, 2048), "gate+up": (2048, 16_384), "down": (8192, 2048)}
    rows = [r | {"run_id": r["run_id"] + "-joint"} for r in block_rows((2048,), joint, glwe=False)]
    table = TABLES["published_comparison"](data(tmp_path, block=rows + glwe_rows(), published=True))
    shared = table[table["our_setting"].str.contains("one call for layers that share an input")]
    assert len(shared) and shared["ours"].notna().all() and shared["ratio_ours_to_published"].isna().all()
    assert shared["our_setting"].str.contains("127 remote calls").all()


def test_every_published_value_has_a_line_and_a_number_or_a_reason(tmp_path):
    found = data(tmp_path, published=True)
    table = TABLES["published_comparison"](found)
    published = found.published_values
    assert set(published.loc[published["step"].isna(), "configuration"]) <= set(table["published_setting"])
    empty = table["ours"].isna()
    assert (table.loc[empty, "not_checked"].fillna("") != "").all()
    assert (table.loc[~empty, "not_checked"].fillna("") == "").all()


def test_latency_figure_draws_schemes_plaintext_and_measured_steps(tmp_path):
    figure, points = FIGURES["step_latency"](data(tmp_path))
    assert {"packed, 8 bits, apart", "glwe, apart, extrapolated", "plaintext float32, at the client"} <= set(points["series"])
    assert set(points.loc[points["series"].str.contains("full step measured"), "basis"]) == {"measured"}
    dashed = [line.get_label() for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert dashed == ["glwe, apart, extrapolated"]
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")
    plt.close(figure)


def test_operation_bars_end_where_the_step_does(tmp_path):
    figure, points = FIGURES["full_step_operations"](data(tmp_path))
    packed = points[(points["panel"] == ONE) & (points["x"] == "packed, 8 bits, apart")]
    assert packed["y"].sum() == pytest.approx(35.0)
    assert len(figure.axes) == 2
    plt.close(figure)


def test_crossings_lie_on_the_curves(tmp_path):
    faster = {"packed": ((0.01,) * 3, (0.01,) * 3)}
    figure, points = FIGURES["step_time_by_bandwidth"](data(tmp_path, block=block_rows(ratios=faster, glwe=False)))
    crossing = points[points["series"].str.contains("packed, 8 bits, apart: as fast")]
    assert len(crossing)
    for _, point in crossing.iterrows():
        curve = points[(points["series"] == "packed, 8 bits, apart") & (points["panel"] == point["panel"])]
        assert np.interp(np.log(point["x"]), np.log(curve["x"].astype(float)), curve["y"]) == pytest.approx(
            point["y"], rel=0.01
        )
        plain = points[points["series"].str.startswith("plaintext") & (points["panel"] == point["panel"])]
        assert plain["y"].to_numpy() == pytest.approx(point["y"])
    plt.close(figure)
