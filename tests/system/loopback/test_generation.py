"""The measurement of generated texts: the same tokens in process and through worker processes, and what each took."""

import csv
import json

import psutil
import pytest

from private_lora.bench.generation import generation
from private_lora.core.errors import UserError
from private_lora.specs.loopback import GenerationSpec
from private_lora.study.done import is_done, mark_done, origin

EIGHT = {"activation_bits": 8, "weight_bits": 8}


def spec_of(backend, workers=(), **fields):
    run = {"model": "nano", "backend": backend, "prompt_tokens": 5, "max_new_tokens": 4} | (EIGHT if backend != "float" else {})
    return GenerationSpec.from_dict({"run_id": "text", "run": run | fields, "workers": list(workers), "repeats": 2})


def values(path, metric):
    rows = csv.DictReader(path.open())
    return {
        (int(r["repeat"]), int(r["step"])): float(r["value"]) for r in rows if (r["metric"], r["phase"]) == (metric, "token")
    }


def test_a_text_is_measured_token_by_token(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    found = {}
    for name, spec in {
        "integer": spec_of("integer"),
        "packed": spec_of("packed"),
        "remote": spec_of("packed", ["0", "1"]),
    }.items():
        found[name] = tmp_path / name / "records.csv"
        generation(spec, found[name])
        mark_done(origin(spec, tmp_path), found[name])
        assert is_done(origin(spec, tmp_path), found[name])
    assert set(psutil.Process().children(recursive=True)) == before
    tokens = {name: values(path, "token_id") for name, path in found.items()}
    assert tokens["integer"] == tokens["packed"] == tokens["remote"]
    assert list(tokens["remote"]) == [(repeat, step) for repeat in range(2) for step in range(1, 5)]
    assert (
        set(values(found["remote"], "round_trips").values()) == set(values(found["packed"], "remote_matmuls").values()) == {8}
    )
    assert set(values(found["packed"], "encrypted_matmuls").values()) == {8}
    assert all(seconds > 0 for seconds in values(found["remote"], "token_time_s").values())
    sent, up = (values(found["remote"], metric) for metric in ("sent_bytes", "upload_ciphertext_bytes"))
    assert all(sent[token] > up[token] > 0 for token in sent)
    sidecar = json.loads((tmp_path / "remote" / "sidecar.json").read_text())
    assert sidecar["spec"]["run"]["model"] == "nano" and len(sidecar["layers"]) == 8
    assert all(name.endswith(" forward") for name in sidecar["layers"])
    log = (tmp_path / "remote" / "worker-0.log").read_text()
    assert "4 products of nano ready" in log and "backward" not in log


def test_a_measurement_has_random_prompts():
    with pytest.raises(UserError, match="starts from random tokens"):
        spec_of("float", prompt_tokens=None, prompt="a")
