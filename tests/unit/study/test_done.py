"""What is done already: changed files are noticed, and of private ones a sidecar says nothing that confirms a guess."""

import hashlib
import itertools
import json
from argparse import Namespace

import pytest

from private_lora.cli import batch
from private_lora.cli.main import main
from private_lora.specs.run import RunSpec
from private_lora.training.preparation import prepare
from private_lora.training.run import finetune


@pytest.fixture
def private_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"question": f"Room {i}?", "answer": str(7 * i)}) + "\n" for i in range(40)))
    return path


@pytest.fixture
def one_step(make_spec):
    def make(**fields):
        return make_spec(steps=1, warmup_steps=0, eval_examples=2, sequence_length=32, train_examples=20, **fields)

    return make


@pytest.fixture
def private_run(one_step, private_file):
    return one_step(data="jsonl", data_options={"path": str(private_file)})


@pytest.fixture
def ran(monkeypatch):
    """A function that takes a spec and a results directory through what the workflow's commands call; it gives the sidecar.

    In this process: one that has multiplied with several threads cannot be forked.
    """
    monkeypatch.setattr(batch, "_is_run", lambda run, *known: batch._run_one(run, *known) is None)
    monkeypatch.setattr(batch, "end_with_parent", lambda: None)

    def run(spec: RunSpec, results) -> dict:
        arguments = Namespace(spec=[spec.to_json()], runs=results / "runs", out=results / "all.csv")
        batch.run_all(arguments, RunSpec, lambda spec, records: finetune(spec, records, results / "checkpoints"), ())
        return json.loads((results / "runs" / spec.run_id / "sidecar.json").read_text())

    return run


def rows_sha256(spec, directory) -> str:
    run = prepare(spec, directory)
    arrays = itertools.chain(run.batches.encoded.values(), run.eval_encoded.values())
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_a_sidecar_holds_no_digest_of_private_data(ran, private_run, private_file, tmp_path, capsys):
    text = json.dumps(ran(private_run, tmp_path / "results"))
    run = prepare(private_run, tmp_path / "again")
    arrays = [array for part in (run.batches.encoded, run.eval_encoded) for array in part.values()]
    guessed = [private_file.read_bytes(), *private_file.read_bytes().splitlines(), *(array.tobytes() for array in arrays)]
    digests = [hashlib.sha256(data).hexdigest() for data in guessed] + [rows_sha256(private_run, tmp_path / "again")]
    assert not [digest for digest in digests if digest[:16] in text]
    assert main(["trace", "--run", private_run.run_id, "--results", str(tmp_path / "results")]) == 0
    assert "data (sha256) left out: private" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["math_problems", "random_tokens"])
def test_of_data_that_is_nobodys_it_holds_the_digest(ran, data, one_step, tmp_path):
    spec = one_step(data=data)
    assert ran(spec, tmp_path / "results")["data_sha256"] == rows_sha256(spec, tmp_path / "again")


def test_a_private_file_that_changed_is_read_again_and_one_that_did_not_is_not(ran, private_run, private_file, tmp_path):
    results = tmp_path / "results"
    first = ran(private_run, results)
    key = results / "runs" / ".key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    private_file.write_bytes(private_file.read_bytes())  # as it was, at another time
    assert ran(private_run, results) == first
    private_file.write_text(private_file.read_text().replace("Room 1?", "Hall 1?"))
    second = ran(private_run, results)
    assert second["origin"]["files"] != first["origin"]["files"]
    assert second["seconds"] != first["seconds"]


def test_two_results_directories_give_equal_files_unequal_digests(ran, private_run, tmp_path):
    digests = [ran(private_run, tmp_path / name)["origin"]["files"] for name in ("one", "other")]
    assert digests[0].keys() == digests[1].keys() and digests[0] != digests[1]
