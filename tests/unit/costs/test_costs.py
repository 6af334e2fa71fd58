"""costs.csv from result rows: what is measured stays measured, what is not says so. All rows are made up."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_results import (
    BLOCK_LAYERS,
    FULL_SIZE,
    LOCAL_WORK,
    block_rows,
    full_size_rows,
    glwe_rows,
    write_results,
)

from private_lora.cli.main import main
from private_lora.core.errors import UserError
from private_lora.costs.through_workers import UNKNOWN
from private_lora.results.reader import Data
from private_lora.specs.costs import CostSpec
from private_lora.study.config import DEFAULTS, load_study, merge, read_yaml, study_of

WEIGHTS = sum(k * d for k, d in BLOCK_LAYERS.values())
FIRST = sum(k * d for name, (k, d) in BLOCK_LAYERS.items() if name in "qkv")
ONE, MINI = "Llama-3.2-1B", "mini-llama"


def costs(tmp_path, convergence=None, block=None) -> pd.DataFrame:
    rows = full_size_rows() if convergence is None else convergence
    block = block_rows(glwe=False) if block is None else block
    return Data(write_results(tmp_path, rows, [], published=False, block=block)).costs


def line(table, **columns):
    columns = {"kind": "prediction", "model": ONE, "tokens": 2048} | columns
    found = table[(table[list(columns)] == pd.Series(columns)).all(axis=1)]
    assert len(found), columns
    return found.iloc[0]


def test_a_step_is_the_sum_of_measured_products_and_local_work(tmp_path):
    found = line(costs(tmp_path), backend="packed", workers=1)
    base, block, quantize = LOCAL_WORK[ONE]
    assert found["local_time_s"] == pytest.approx(base + 16 * block)
    assert found["quantize_time_s"] == pytest.approx(16 * quantize)
    # Medians over the repeats of 1.7 x 1, 1.8 x 3, 1.9 x 2; the first block has no backward of q, k, v.
    assert found["matmul_time_s"] == pytest.approx(1e-12 * 2048 * (32 * WEIGHTS - FIRST) * 3.8)
    assert (found["products_basis"], found["local_basis"], found["basis"]) == ("measured", "measured", "extrapolated")
    assert pd.isna(found["measured_step_time_s"]) and found["formula"] == UNKNOWN.formula
    assert found["round_trips"] == 16 * 14 - 3


def test_networks_and_workers_are_lines_and_plaintext_has_neither(tmp_path):
    table = costs(tmp_path)
    spec = load_study([]).costs
    same = table[(table["model"] == ONE) & (table["tokens"] == 2048) & (table["kind"] == "prediction")]
    packed = same[same["backend"] == "packed"]
    assert len(packed) == len(spec.networks) * len(spec.arrangements)
    (plain,) = (row for _, row in same[same["backend"] == "plaintext_float32"].iterrows())
    assert plain["network"] == "" and np.isnan(plain["workers"])
    assert plain["quantize_time_s"] == 0  # who multiplies in float32 does not quantize
    assert plain["step_time_s"] == plain["client_time_s"]
    shards, one = (packed[packed["arrangement"] == name].set_index("network") for name in ("4 shards", "1 worker"))
    assert (shards["step_time_s"] == one["step_time_s"]).all() and (shards["server_time_s"] == one["server_time_s"]).all()
    assert (shards["worker_weights_bytes"] == one["worker_weights_bytes"] / 4).all()
    assert (shards["money_per_step"] > one["money_per_step"]).all()


def test_shapes_that_were_not_measured_are_fitted_and_say_so(tmp_path):
    found = line(costs(tmp_path), model="Llama-3.1-8B", backend="plaintext_float32")
    layers = {"q": (4096, 4096), "k": (4096, 1024), "v": (4096, 1024), "o": (4096, 4096)}
    layers |= {"gate": (4096, 14336), "up": (4096, 14336), "down": (14336, 4096)}
    weights = sum(k * d for k, d in layers.values())
    first = sum(layers[name][0] * layers[name][1] for name in "qkv")
    # The made-up times are proportional to K D, so the fit is exact.
    assert found["matmul_time_s"] == pytest.approx(2e-12 * 2048 * (64 * weights - first), rel=1e-6)
    assert (found["products_basis"], found["local_basis"]) == ("extrapolated", "extrapolated")
    assert "non-negative least squares" in found["formula"] and f"{ONE}'s" in found["formula"]


def test_local_work_of_another_model_follows_widths_and_vocabulary(tmp_path):
    found = line(costs(tmp_path), model="Llama-3.1-8B", backend="packed")
    base, block, _ = LOCAL_WORK[ONE]
    widths = (2 * 8192 + 2 * 5120 + 3 * 18432) / (2 * 4096 + 2 * 2560 + 3 * 10240)
    assert found["local_time_s"] == pytest.approx(2 * base + 32 * widths * block)


def test_other_batches_scale_local_work_by_tokens(tmp_path):
    found = line(costs(tmp_path), backend="packed", tokens=512)
    base, block, _ = LOCAL_WORK[ONE]
    assert found["local_time_s"] == pytest.approx((base + 16 * block) / 4)
    assert found["local_basis"] == "extrapolated" and "x 0.25 (tokens)" in found["formula"]


def test_glwe_is_one_row_times_the_tokens(tmp_path):
    found = line(costs(tmp_path, block=block_rows(glwe=False) + glwe_rows()), backend="glwe", workers=1)
    outputs = sum(k + d for k, d in BLOCK_LAYERS.values())
    assert found["matmul_time_s"] == pytest.approx(2048 * 8e-3 * (16 * outputs - 3 * 2048))
    assert found["products_basis"] == "extrapolated" and "one row of glwe x 2048 tokens" in found["formula"]


def test_glwe_at_several_bits_is_one_scheme(tmp_path):
    rows = [r | {"activation_bits": 7, "weight_bits": 7} if r["layer"] == "down" else r for r in glwe_rows()]
    table = costs(tmp_path, block=rows)
    assert set(table.loc[table["backend"] == "glwe", "bits"]) == {"7, 8"}


def test_whole_steps_are_predicted_and_never_fitted(tmp_path):
    table = costs(tmp_path)
    found = line(table, kind="validation", backend="packed")
    measured = sum(FULL_SIZE[f"{ONE} (random weights)"]["packed"]) + 3.0 + 16 * 0.75
    assert found["measured_step_time_s"] == pytest.approx(measured)
    assert found["relative_error"] == pytest.approx(found["step_time_s"] / measured - 1)
    assert found["network"] == "in process" and pd.isna(found["money_per_step"])
    slow = [r["run_id"].endswith("packed-None") and r["metric"].endswith("time_s") for r in full_size_rows()]
    slower = [r | {"value": 10 * r["value"]} if s else r for r, s in zip(full_size_rows(), slow, strict=True)]
    again = line(costs(tmp_path / "b", slower), kind="validation", backend="packed")
    assert again["step_time_s"] == found["step_time_s"]


def test_what_was_not_measured_by_itself_is_not_predicted(tmp_path):
    found = line(costs(tmp_path), kind="validation", backend="integer")
    assert np.isnan(found["step_time_s"]) and found["formula"].startswith("not predicted")
    whole = [r for r in full_size_rows() if r["run_id"].endswith("None")]
    assert set(costs(tmp_path / "b", whole)["kind"]) == {"validation", "price"}
    assert set(costs(tmp_path / "c", [], [])["kind"]) == {"price"}


def test_machines_are_never_mixed(tmp_path):
    other = [r | {"machine": "another"} for r in block_rows(glwe=False)]
    assert set(costs(tmp_path, block=other)["kind"]) == {"validation", "price"}
    beside = [r | {"machine": "a GPU beside another"} for r in block_rows(glwe=False)]
    local = [r | {"machine": "another"} for r in full_size_rows()]
    table = costs(tmp_path / "b", local, beside)
    assert set(table.loc[table["kind"] == "prediction", "machine"]) == {"a GPU beside another"}


def test_a_block_cheaper_than_noise_takes_nothing(tmp_path):
    rows = [
        r | {"value": 0.5 * r["value"]} if r["run_id"].endswith("integer-2") and r["metric"] == "train_time_s" else r
        for r in full_size_rows()
    ]
    assert (costs(tmp_path, rows)["local_time_s"].dropna() >= 0).all()


def test_three_shapes_are_too_few_to_extrapolate_from(tmp_path):
    rows = block_rows((2048,), {name: BLOCK_LAYERS[name] for name in ("q", "k")}, glwe=False)
    table = costs(tmp_path, block=rows)
    assert set(table["kind"]) == {"validation", "price"}


def test_the_command_writes_the_file(tmp_path):
    data = write_results(tmp_path, full_size_rows(), [], published=False, block=block_rows())
    out = tmp_path / "again.csv"
    assert main(["costs", "--spec", load_study([]).costs.to_json(), "--data", str(data), "--out", str(out)]) == 0
    assert out.read_text() == (data / "costs.csv").read_text()


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"models": ["Llama-9"]}, ["costs", "'Llama-9'", "Llama-3.2-1B"]),
        ({"networks": [{"name": "n", "bandwidth_bits_per_s": 0, "latency_s": 0}]}, ["bandwidth_bits_per_s", "at least 1"]),
        ({"networks": [{"name": "n", "bandwidth_bits_per_s": 1e9, "latency_s": -1}]}, ["latency_s", "at least 0"]),
        ({"networks": [{"name": "n", "bandwidth_bits_per_s": 1e9, "latency_s": 0}] * 2}, ["'n'", "twice"]),
        ({"arrangements": [{"name": "a", "shards": 0, "replicas": 1}]}, ["costs.arrangements[0].shards", "at least 1"]),
        ({"arrangements": [{"name": "a", "shards": 1, "replicas": 1}] * 2}, ["'a'", "twice"]),
        ({"workers": [1]}, ["costs", "'workers'"]),
        ({"tokens": [12.5]}, ["costs.tokens[0]", "whole number"]),
        ({"prices": {"client_per_hour": -0.1}}, ["costs.prices.client_per_hour", "at least 0"]),
        ({"prices": {"per_month": 1}}, ["costs.prices", "'per_month'"]),
    ],
)
def test_nonsense_is_refused_in_one_sentence(section, expected):
    with pytest.raises(UserError) as error:
        study_of(merge(read_yaml(DEFAULTS), {"costs": section}))
    assert all(part in str(error.value) for part in expected), str(error.value)
    assert "\n" not in str(error.value)


def test_a_spec_by_hand_without_a_price_is_refused():
    values = json.loads(load_study([]).costs.to_json())
    del values["prices"]["traffic_per_gb"]
    with pytest.raises(UserError, match="prices: key 'traffic_per_gb' is missing"):
        CostSpec.from_dict(values)
