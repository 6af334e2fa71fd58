"""Lines say what they are of: samples, calls, tokens, treatment of constant rows, measured beside predicted. Made-up rows."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_results import (
    BLOCK_LAYERS,
    block_rows,
    encrypted_rows,
    full_size_rows,
    glwe_rows,
    inflation_rows,
    run_rows,
    sweep_rows,
    write_results,
)

from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import plt
from private_lora.publish.tables import TABLES
from private_lora.publish.tables.render import to_markdown
from private_lora.publish.tables.step_cost import shown_model, step_tokens
from private_lora.results.reader import Data

ONE = "Llama-3.2-1B"
JOINT = {"q+k+v": (2048, 3072), "o": (2048, 2048), "gate+up": (2048, 16_384), "down": (8192, 2048)}


def data(tmp_path, convergence=(), block=(), **options) -> Data:
    options = {"published": False} | options
    return Data(write_results(tmp_path, list(convergence), [], block=list(block), **options))


def joint_rows() -> list[dict]:
    return [row | {"run_id": row["run_id"] + "-joint"} for row in block_rows((2048,), JOINT, glwe=False)]


def test_k_and_v_are_one_sample(tmp_path):
    table = TABLES["block_latency"](data(tmp_path, block=block_rows((2048,), glwe=False)))
    packed = table.set_index("backend").loc["packed"]
    # Seven layers in two directions have five shapes, each measured three times.
    assert (packed["products"], packed["repeats"], packed["samples"]) == (14, 3, 15)
    assert "k and v, or gate and up, are one measurement" in to_markdown(table)


def test_bytes_stand_over_those_of_glwe_with_as_many_calls(tmp_path):
    rows = block_rows((2048,), glwe=False) + joint_rows() + glwe_rows(names=("q", "k"))
    table = TABLES["block_bytes"](data(tmp_path, block=rows)).set_index(["backend", "inputs"])
    calls = table["remote_calls"].to_dict()
    assert calls == {(name, kind): 16 * (14 if kind == "apart" else 8) for name, kind in table.index}
    for kind in ("apart", "joint"):
        ratio = table.loc[("packed", kind), "total_bytes_per_token"] / table.loc[("glwe", kind), "total_bytes_per_token"]
        assert table.loc[("packed", kind), "total_over_glwe"] == pytest.approx(ratio)
        assert set(table.loc[("packed", kind), "run_ids"].split()) >= {"block-glwe-1"}
    # One for each 2,048 values, forward and backward: one input for q, k and v, and for gate and up.
    assert table.loc[("glwe", "joint"), "up_bytes_per_token"] == 16 * 10_000 * ((1 + 1 + 1 + 4) + (2 + 1 + 8 + 1))
    assert table.loc[("glwe", "joint"), "basis"] == "extrapolated + measured"


def test_a_full_step_stands_over_float32_and_the_same_integers_with_the_same_calls(tmp_path):
    rows = full_size_rows()
    plain = [row for row in rows if row["run_id"].endswith("mini-llama-integer-None")]
    plain = [row | {"run_id": "plain", "backend": "float", "activation_bits": "", "weight_bits": ""} for row in plain]
    plain = [row | {"value": 0.25} if row["metric"] == "step_time_s" else row for row in plain]
    table = TABLES["full_step"](data(tmp_path, rows + plain))
    step = table[(table["model"] == "mini-llama") & (table["backend"] == "packed")].iloc[0]
    integer = table[(table["model"] == "mini-llama") & (table["backend"] == "integer") & (table["blocks"] == 6)].iloc[0]
    assert step["step_time_over_float32"] == pytest.approx(step["step_time_s_median"] / 0.25)
    assert step["step_time_over_integer"] == pytest.approx(step["step_time_s_median"] / integer["step_time_s_median"])
    assert np.isnan(step["step_time_over_bf16"]) and "empty where it was not measured" in to_markdown(table)
    assert {"plain", integer["run_ids"].split()[0]} <= set(step["run_ids"].split())
    assert step["remote_calls_per_step"] == 300
    # Steps with other calls are not compared.
    joint = [row | {"value": 1} if row["metric"] == "share_inputs" else row for row in plain]
    other = TABLES["full_step"](data(tmp_path / "joint", rows + joint))
    assert other.loc[other["backend"] == "packed", "step_time_over_float32"].isna().all()


def test_the_client_is_measured_beside_what_was_predicted(tmp_path):
    rows = full_size_rows()
    plain = [
        r | {"run_id": "plain", "backend": "float"} for r in rows if r["run_id"] == f"full-{ONE}-random-weights-integer-None"
    ]
    found = data(tmp_path, rows + plain, block_rows(glwe=False))
    table = TABLES["client_economics"](found)
    line = table[(table["model"] == ONE) & (table["backend"] == "packed")].iloc[0]
    # Quantize 4 s, encrypt 1 s, decrypt 3 s, over products of 8 s.
    assert line["measured_client_with_quantize_over_float32"] == pytest.approx(8 / 8)
    assert line["measured_client_with_quantize_over_integer"] == pytest.approx(8 / 8)
    predicted = line["client_with_quantize_over_float32"]
    assert line["prediction_error_percent"] == pytest.approx(100 * (predicted - 1)) and line["prediction_error_percent"] < 0
    assert line["measured_basis"] == "measured" and line["basis"] == "extrapolated"
    assert "plain" in line["run_ids"].split() or f"full-{ONE}-random-weights-packed-None" in line["run_ids"].split()
    others = table[table["model"] != ONE]
    assert others["measured_client_with_quantize_over_float32"].isna().all()
    # A sentence on sizes takes the measured number: at this model the client saves nothing, whatever was predicted.
    note = next(text for text in table.attrs["notes"] if text.startswith("packed,"))
    assert predicted < 1 and f"from {ONE} on" not in note and "predicted" in note


def test_models_and_tokens_of_predictions_come_from_the_data(tmp_path):
    found = data(tmp_path, full_size_rows(), block_rows((512, 2048), glwe=False))
    assert (shown_model(found.costs), step_tokens(found.costs)) == (ONE, 2048)
    mini = [row for row in full_size_rows() if row["model"] == "mini-llama"]
    mini = [row | {"value": 512} if row["metric"] == "step_tokens" else row for row in mini]
    layers = {name: tuple(size // 8 for size in shape) for name, shape in BLOCK_LAYERS.items()}
    block = block_rows((512,), glwe=False) + [row | {"run_id": "small"} for row in block_rows((512,), layers, glwe=False)]
    other = data(tmp_path / "other", mini, block)
    assert step_tokens(other.costs) == 512
    assert set(TABLES["step_cost"](other)["tokens"]) == {512}
    figure, _ = FIGURES["step_latency"](other)
    assert shown_model(other.costs) in figure.axes[0].get_title(loc="left")
    plt.close(figure)


def test_published_gradients_stand_beside_runs_that_treat_constant_rows_alike(tmp_path):
    table = TABLES["published_comparison"](data(tmp_path, encrypted_rows() + inflation_rows(), published=True))
    line = table[table["quantity"].isin(["gradient norm, step 1", "mean training loss, first 5 steps"])]
    assert line["our_setting"].str.contains("reference rows").all() and len(line) == 2
    assert line["run_ids"].tolist() == ["enc-glwe-ref enc-integer"] * 2
    assert line["ours"].iloc[-1] == pytest.approx(900)
    exact = [row for row in encrypted_rows() if row["run_id"] != "enc-glwe-ref"]
    alone = TABLES["published_comparison"](data(tmp_path / "exact", exact, published=True))
    reason = alone.loc[alone["quantity"] == "gradient norm, step 1", "not_checked"]
    assert reason.tolist() == ["no run under glwe that treats constant rows as the reference implementation does"]


def test_published_steps_say_how_they_treat_constant_rows(tmp_path):
    table = TABLES["encrypted_vs_clear"](data(tmp_path, encrypted_rows(), published=True))
    assert set(table.loc[table["basis"] == "published", "constant_rows"]) == {"reference"}
    assert set(table.loc[table["label"] == "glwe", "constant_rows"]) == {"exact"}


def test_a_falling_loss_is_no_claim_of_learning(tmp_path):
    table = TABLES["claims"](data(tmp_path, sweep_rows((8,), (0,), ("mini-llama",))))
    assert not table["claim"].str.contains("lowers|learn").any()
    assert "not that a model learned a task" in " ".join(table.attrs["notes"])


def test_a_claim_of_several_machines_says_which_is_which(tmp_path):
    slow = [row | {"run_id": row["run_id"] + "-b", "machine": "b"} for row in block_rows((2048,), glwe=False)]
    rows = [row | {"machine": "a"} for row in block_rows((2048,), glwe=False)] + slow
    table = TABLES["claims"](data(tmp_path, block=rows)).set_index("claim")
    detail = table.loc[
        table.index.str.contains("packed, each .* 2,048 tokens.* server product over plaintext int8"), "detail"
    ].iloc[0]
    assert "7.2 (a), 7.2 (b)" in detail


def test_only_steps_of_the_same_length_are_compared(tmp_path):
    rows = run_rows("f", 0.5, backend="float", stage="packed") + run_rows("i", 0.5, steps=20, stage="packed")
    rows += run_rows("p", 0.5, steps=20, backend="packed", stage="packed")
    line = TABLES["packed_training"](data(tmp_path, rows)).set_index("label").loc["packed"]
    assert (line["step_time_over_integer"], line["run_ids"]) == (1, "p i")
    assert np.isnan(line["step_time_over_float32"])
