"""Whole small runs: pairing, resume after kill -9, adapters that load elsewhere, labels that cannot lie."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from slow_tests import slow, slow_but

from private_lora.core.errors import Interrupted
from private_lora.models.load import load_base
from private_lora.specs.backends import BACKENDS
from private_lora.training.loop import train
from private_lora.training.preparation import prepare
from private_lora.training.run import check_labels, finetune

CLEAR = [n for n, e in BACKENDS.items() if e.kind == "matmul" and not e.encrypted]


def read(path):
    return list(csv.DictReader(path.open()))


def values(rows, metric, phase):
    return [float(r["value"]) for r in rows if r["metric"] == metric and r["phase"] == phase]


@pytest.mark.parametrize("name", slow_but(("float", "integer"), CLEAR))
def test_a_run_writes_records_sidecar_and_an_adapter_that_plain_peft_loads(name, make_spec, tmp_path):
    from peft import PeftModel

    spec = make_spec(backend=name, generate_examples=2)
    assert finetune(spec, tmp_path / "run" / "records.csv", tmp_path / "checkpoints")
    rows = read(tmp_path / "run" / "records.csv")
    assert len(values(rows, "loss", "train")) == 6
    assert len(values(rows, "loss", "eval")) == 2
    assert all(0 <= v <= 1 for v in values(rows, "exact_match", "eval"))
    assert {r["basis"] for r in rows} == {BACKENDS[name].basis}
    sidecar = json.loads((tmp_path / "run" / "sidecar.json").read_text())
    assert sidecar["spec"] == spec.to_dict()
    assert sidecar["model_hash"]
    assert not list((tmp_path / "checkpoints").glob("*.pt"))
    plain = PeftModel.from_pretrained(load_base(spec.model)[0], tmp_path / "run" / "adapter")
    moved = [p for n, p in plain.named_parameters() if "lora_B" in n]
    assert moved
    assert any(p.abs().max() > 0 for p in moved)


def test_text_without_questions_is_measured_in_bits_per_byte(make_spec, tmp_path):
    texts = {"data": "private_code", "data_options": {"chunk_characters": 100}, "sequence_length": 128, "steps": 2}
    once = {}
    for name, padding in (("text", False), ("padded", True)):
        out = tmp_path / name / "records.csv"
        assert finetune(make_spec(**texts, count_padding=padding), out, tmp_path / name)
        once[name] = values(read(out), "bits_per_byte", "eval")
    assert len(once["text"]) == 2 and all(value > 0 for value in once["text"])
    assert once["padded"][0] == pytest.approx(once["text"][0], rel=1e-4)
    problems = tmp_path / "problems" / "records.csv"
    assert finetune(make_spec(steps=2), problems, tmp_path / "problems")
    assert values(read(problems), "bits_per_byte", "eval") == []


def test_the_saved_adapter_is_the_trained_function(make_spec, tmp_path):
    from peft import PeftModel

    spec = make_spec(backend="float", eval_examples=0)
    run = prepare(spec, tmp_path)
    train(run)
    run.model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    plain = PeftModel.from_pretrained(load_base(spec.model)[0], tmp_path / "adapter").eval()
    tokens = torch.arange(3, 19).reshape(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(plain(tokens).logits, run.model.eval()(tokens).logits, rtol=1e-4, atol=1e-5)


def test_runs_that_differ_in_backend_are_paired(make_spec, tmp_path):
    runs = [prepare(make_spec(backend=name), tmp_path) for name in ("float", "integer")]
    for (name, a), (_, b) in zip(*(r.model.named_parameters() for r in runs), strict=True):
        assert torch.equal(a, b) or (a.isnan().all() and b.isnan().all()), name  # a remote weight has no values here
    first, second = (r.batches.batch(3)["input_ids"] for r in runs)
    assert (first == second).all()


def test_sixteen_bit_curve_follows_the_float_one(make_spec, tmp_path):
    curves = {}
    for name, bits in (("float", {}), ("integer", {"activation_bits": 16, "weight_bits": 16})):
        run = prepare(make_spec(backend=name, **bits), tmp_path / name)
        train(run)
        curves[name] = run.losses
    assert curves["integer"] == pytest.approx(curves["float"], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        ("integer", 3),  # between two checkpoints
        ("glwe_simulated", 4),  # right after one
        slow("integer", 1),
        slow("integer", 4),
        slow("glwe_simulated", 1),
        slow("glwe_simulated", 3),
    ],
)
def test_an_interrupted_run_ends_with_the_same_curve(name, stop, make_spec, tmp_path):
    spec = make_spec(backend=name, lora_dropout=0.1, eval_every=2)
    whole = prepare(spec, tmp_path / "whole")
    train(whole)
    killed = prepare(spec, tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        train_until(killed, stop)
    resumed = prepare(spec, tmp_path / "killed")
    train(resumed)
    assert resumed.losses == whole.losses
    assert [r["value"] for r in resumed.recorder.rows if r["phase"] == "eval"] == [
        r["value"] for r in whole.recorder.rows if r["phase"] == "eval"
    ]
    assert resumed.session.counters == whole.session.counters


def test_what_wrapped_around_is_counted_by_layer_and_kept_over_an_interruption(make_spec, tmp_path):
    options = {"activation_bits": 16, "weight_bits": 16, "backend_options": {"overflow": "wrap_unsigned"}}
    spec = make_spec(backend="glwe_simulated", eval_examples=0, **options)
    assert finetune(spec, tmp_path / "run" / "records.csv", tmp_path / "whole")
    rows = [row for row in read(tmp_path / "run" / "records.csv") if row["layer"] == "mlp.down_proj"]
    found = {(row["phase"], row["metric"]): float(row["value"]) for row in rows}
    for phase in ("forward", "backward"):
        assert found[phase, "accumulator_bits"] > 27
        assert 0 < found[phase, "wrapped_outputs"] < found[phase, "checked_outputs"]
    killed = prepare(spec, tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        train_until(killed, 4)
    resumed = prepare(spec, tmp_path / "killed")
    train(resumed)
    assert resumed.session.overflow.wrapped["mlp.down_proj forward"] == found["forward", "wrapped_outputs"]
    assert resumed.session.noise.largest < 8 * 19.05


def train_until(run, stop):
    """Train, and be interrupted at the beginning of step `stop` + 1."""
    take = run.batches.batch

    def batch(i):
        if i == stop:
            raise KeyboardInterrupt
        return take(i)

    run.batches.batch = batch
    train(run)


def test_kill_9_and_again_gives_the_same_records(make_spec, tmp_path):
    spec = make_spec(steps=60, checkpoint_every=5)

    def command(name):
        out = tmp_path / name
        arguments = ["finetune", "--spec", spec.to_json(), "--out", str(out), "--checkpoints", str(tmp_path / f"{name}-c")]
        return [sys.executable, "-m", "private_lora", *arguments, "--quiet", "--log-to", "jsonl"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed-c").glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "killed-c").glob("*.pt"))
    assert not (tmp_path / "killed" / "records.csv").exists()
    subprocess.run(command("killed"), check=True, capture_output=True)
    whole, killed = (read(tmp_path / name / "records.csv") for name in ("whole", "killed"))
    for metric in ("loss", "grad_norm"):
        assert values(whole, metric, "train") == values(killed, metric, "train")
    assert values(whole, "loss", "eval") == values(killed, "loss", "eval")
    told = [json.loads(line) for line in (tmp_path / "killed" / "live.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told] == [0, *range(1, 61), 60]
    assert [line["loss"] for line in told if line["phase"] == "train"] == values(whole, "loss", "train")


def test_a_diverged_run_is_a_result_and_says_so(make_spec, tmp_path):
    spec = make_spec(learning_rate=1e30, max_grad_norm=1e30, steps=8, warmup_steps=0)
    assert not finetune(spec, tmp_path / "records.csv", tmp_path)
    rows = read(tmp_path / "records.csv")
    final = [r for r in rows if r["phase"] == "eval" and r["status"] == "failed"]
    assert len(final) == 1
    assert final[0]["value"] == ""
    assert values(rows, "loss", "train")
    assert json.loads((tmp_path / "sidecar.json").read_text())["failure"]


def test_results_that_cannot_be_written_are_had_from_the_same_call_later(make_spec, tmp_path, monkeypatch):
    spec, out = make_spec(), tmp_path / "run" / "records.csv"
    out.parent.write_text("a file where the directory should be")
    with pytest.raises(Interrupted, match=r"cannot write the results to .*run: .*; run again when that is solved"):
        finetune(spec, out, tmp_path / "checkpoints")
    out.parent.unlink()
    monkeypatch.setattr("private_lora.training.loop.train_step", None)  # every step had been taken
    assert finetune(spec, out, tmp_path / "checkpoints")
    assert len(values(read(out), "loss", "train")) == spec.steps


def test_a_run_that_claims_encryption_and_counted_none_is_refused(make_spec, tmp_path):
    run = prepare(make_spec(backend="integer"), tmp_path)
    object.__setattr__(run.spec, "backend", "glwe")
    with pytest.raises(RuntimeError, match="no encrypted product"):
        check_labels(run, {})


def test_a_layer_that_could_overflow_is_named_before_any_step(make_spec, tmp_path):
    from private_lora.core.errors import UserError

    with pytest.raises(UserError, match=r"layer model\.layers\.0\..*27 bits"):
        prepare(make_spec(backend="glwe_simulated", activation_bits=14, weight_bits=14), tmp_path)
