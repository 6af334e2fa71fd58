"""The command `estimate`: end to end on the smallest model, and what it refuses before any work."""

import json

import pytest

from private_lora.cli.main import main
from private_lora.specs.estimate import EstimateSpec


def test_an_estimate_of_the_smallest_model(tmp_path, capsys):
    out = tmp_path / "estimate.json"
    asked = (
        "estimate --model nano --tokens 64 --steps 200 --bandwidth 1Gbit --latency 1ms --backend packed packed_approx".split()
    )
    assert main([*asked, "--json", str(out)]) == 0
    text = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [b["backend"] for b in found["backends"]] == ["packed", "packed_approx"]
    for backend in found["backends"]:
        step = backend["step"]
        seconds = [step[f"{name}_time_s"] for name in ("local", "quantize", "encrypt", "decrypt", "server", "network")]
        assert min(seconds) > 0 and step["step_time_s"] == pytest.approx(sum(seconds))
        assert backend["bytes_basis"] == "exact" and backend["hint_bytes"] > 0
        assert all(min(p["matzov_bits_of_proof"]) >= 128 for p in backend["parameters"])
        assert backend["verdict"]["said"] in text
    assert {line["type"] for line in found["plain"]} == {"float32 (torch)", "float32 (oneDNN)", "bf16", "int8", "4-bit"}
    assert all(part in text for part in ("q+k+v forward", "64 tokens a step, 200 steps", "does it pay?", "1 Gbit/s"))
    assert all(len(line) < 160 for line in text.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--model is missing"),
        ("--model llama-9b", "unknown model 'llama-9b'"),
        ("--model owner/name", "config.json of owner/name is not in the local cache, and an estimate downloads nothing"),
        ("--model nano --bandwidth fast", "bandwidth 'fast' is no number with a unit, such as 100Mbit"),
        ("--model nano --latency 40", "latency '40' is no number with a unit, such as 40ms"),
        ("--model nano --tokens 700", "--tokens 700 is no multiple of sequences of 512 tokens: give --sequence-length"),
        ("--model nano --steps 0", "--steps must be at least 1, not 0"),
        ("--model nano --shards 0", "--shards must be at least 1, not 0"),
        ("--model nano --replicas 2", "only where it is cut into questions: give --rows-per-question too"),
        ("--model nano --bits 40", "activation_bits must be at most 16, not 40"),
        ("--model nano --config nowhere.yaml", "cannot read the configuration nowhere.yaml"),
        ("--spec {}", "key 'run_id' is missing"),
    ],
)
def test_what_cannot_be_estimated_is_one_sentence(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    more = ["--out", str(tmp_path / "records.csv")] if "--spec" in arguments else []
    assert main(["estimate", *arguments.split(), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_prices_come_from_a_study_or_flags(tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text("costs: {prices: {currency: EUR, worker_per_hour: 1.0}}")
    assert main(["estimate", "--model", "nano", "--config", str(study), "--client-per-hour", "2"]) == 2
    assert "no price traffic_per_gb is known: give --traffic-per-gb" in capsys.readouterr().err


@pytest.mark.slow
def test_an_estimate_beside_its_run(make_spec, tmp_path):
    from private_lora.publish.tables.estimate_errors import estimate_errors
    from private_lora.results.reader import Data

    run = make_spec(run_id="e", stage="estimate", backend="packed", steps=3, eval_examples=0).to_dict()
    spec = EstimateSpec(run_id="e", run=run)
    out = tmp_path / "data" / "estimate.csv"
    assert main(["estimate", "--spec", spec.to_json(), "--out", str(out)]) == 0
    table = estimate_errors(Data(tmp_path / "data")).set_index("quantity")
    for name in ("upload_bytes_per_token", "download_bytes_per_token", "hint_bytes"):
        assert table.loc[name, "error_percent"] == 0 and table.loc[name, "estimated_how"] == "planned"
    assert (table["measured"] > 0).all() and (table["estimated"] > 0).all()
    assert json.loads((tmp_path / "data" / "sidecar.json").read_text())["estimate"]["backends"]
