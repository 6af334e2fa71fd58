"""Latency of one layer for every matmul backend: rows by operation, labels from what ran, wrong answers refused."""

import csv
import json

import numpy as np
import pytest

from private_lora.bench import layer as bench
from private_lora.core.errors import UserError
from private_lora.specs.backends import BACKENDS
from private_lora.specs.layer import LayerSpec

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]


def make_spec(name, **fields):
    bits = {"activation_bits": 7, "weight_bits": 7} if BACKENDS[name].quantized else {}
    shape = {"rows": 1, "inputs": 40, "outputs": 3, "repeats": 2, "warmup": 1}
    return LayerSpec.from_dict({"run_id": "layer", "backend": name} | bits | shape | fields)


@pytest.mark.parametrize("name", MATMUL)
def test_rows_hold_each_stage_of_each_repeat(name, tmp_path):
    bench.layer(make_spec(name), tmp_path / "records.csv")
    rows = list(csv.DictReader((tmp_path / "records.csv").read_text().splitlines()))
    for stage in ("encrypt_time_s", "matmul_time_s", "decrypt_time_s"):
        times = [float(r["value"]) for r in rows if r["metric"] == stage]
        assert len(times) == 2
        assert all(t > 0 for t in times)
    values = {r["metric"]: float(r["value"]) for r in rows if r["phase"] == "run"}
    sent = [float(r["value"]) for r in rows if r["metric"] == "upload_ciphertext_bytes"]
    assert (values["encrypted_matmuls"] > 0) == BACKENDS[name].encrypted == all(sent)
    assert {(r["tokens"], r["inputs"], r["outputs"]) for r in rows} == {("1", "40", "3")}
    assert json.loads((tmp_path / "sidecar.json").read_text())["environment"]["versions"]["torch"]


def test_a_wrong_answer_has_no_latency(tmp_path, monkeypatch):
    from private_lora.backends.clear.integer import IntegerServer

    right = IntegerServer.matmul

    def off_by_one(self, message):
        answer = right(self, message)
        return type(answer)(answer.values + np.int64(1))

    monkeypatch.setattr(IntegerServer, "matmul", off_by_one)
    with pytest.raises(RuntimeError, match="off by up to 1"):
        bench.layer(make_spec("integer"), tmp_path / "records.csv")
    assert not (tmp_path / "records.csv").exists()


def test_a_trainer_has_no_single_layer_to_time():
    with pytest.raises(UserError, match="no separate linear layer"):
        make_spec("concrete_ml")
