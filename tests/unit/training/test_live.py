"""What a run tells while it goes on: the numbers of its records, to a terminal and to logs, and never another run for it."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import os
import pty
import re
import stat
import struct
import termios
from dataclasses import asdict, fields

import pytest

from private_lora.cli.main import main
from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.training.live import Live, Step, progress
from private_lora.training.logs import logs
from private_lora.training.loop import train
from private_lora.training.preparation import prepare
from private_lora.training.run import finetune

PAGE = ROOT / "docs" / "own_documents.md"


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_step(path, name, phase="train"):
    return [(line["step"], line[name]) for line in lines_of(path) if line["phase"] == phase]


def scalars(directory, tag):
    """What TensorBoard shows of a directory."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def numbers(path):
    """Rows of records without those that are times."""
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    return [(r["phase"], r["step"], r["metric"], r["value"]) for r in rows if r["unit"] not in ("s", "fraction", "B")]


@pytest.fixture(scope="module")
def told(make_spec, tmp_path_factory):
    """Directory of a run that told a terminal's log, JSON lines and TensorBoard, and its spec."""
    directory, spec = tmp_path_factory.mktemp("told"), make_spec(eval_every=3, run_id="told")
    listeners = [progress(), *logs(["jsonl", "tensorboard"], "told", directory)]
    assert finetune(spec, directory / "records.csv", directory / "checkpoints", listeners=listeners)
    return directory, spec


def test_a_run_that_tells_is_the_run_that_does_not(told, tmp_path):
    directory, spec = told
    assert finetune(spec, tmp_path / "records.csv", tmp_path / "checkpoints")
    assert numbers(tmp_path / "records.csv") == numbers(directory / "records.csv")


def test_a_log_has_the_numbers_of_the_records(told):
    directory, spec = told
    recorded = {(phase, step, metric): float(value) for phase, step, metric, value in numbers(directory / "records.csv")}
    for name in ("loss", "grad_norm", "learning_rate"):
        assert by_step(directory / "live.jsonl", name) == [
            (step, recorded["train", str(step), name]) for step in range(1, spec.steps + 1)
        ]
    evaluated = by_step(directory / "live.jsonl", "eval_loss", "eval")
    assert evaluated == [(step, recorded["eval", str(step), "loss"]) for step in (0, 3, 6)]
    for tag, known in (("train/loss", by_step(directory / "live.jsonl", "loss")), ("eval/loss", evaluated)):
        assert dict(scalars(directory / "tensorboard", tag)) == pytest.approx(dict(known))  # TensorBoard keeps float32


def test_counters_are_the_session_s_own(make_spec, tmp_path):
    run = prepare(make_spec(eval_examples=0), tmp_path)
    run.live = Live(logs(["jsonl"], "tiny", tmp_path))
    train(run)
    run.live.close()
    last = lines_of(tmp_path / "live.jsonl")[-1]
    counters = run.session.counters
    assert last["remote_products"] == counters.products > 0 == last["encrypted_products"]
    assert (last["upload_bytes"], last["download_bytes"], last["sent_bytes"]) == (0, 0, None)
    assert sum(line["tokens"] for line in lines_of(tmp_path / "live.jsonl")) == run.train_tokens
    assert last["time_left_s"] == 0 < lines_of(tmp_path / "live.jsonl")[0]["time_left_s"]


def test_ciphertexts_are_counted(make_spec, tmp_path):
    run = prepare(make_spec(backend="packed", steps=1, eval_examples=0), tmp_path)
    run.live = Live(logs(["jsonl"], "tiny", tmp_path))
    train(run)
    (line,) = lines_of(tmp_path / "live.jsonl")
    counters = run.session.counters
    assert line["encrypted_products"] == line["remote_products"] == counters.encrypted_products > 0
    assert line["upload_bytes"] == counters.upload_ciphertext_bytes > 0
    assert line["download_bytes"] == counters.download_ciphertext_bytes > 0


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_a_log_of_a_run_that_was_interrupted_goes_on(stop, told, make_spec, tmp_path):
    directory, _ = told
    spec, stopped = make_spec(eval_every=3, run_id="told"), False
    for _ in range(2):
        run = prepare(spec, tmp_path)
        run.live = Live(logs(["jsonl", "tensorboard"], "told", tmp_path))
        take = run.batches.batch
        if not stopped:
            run.batches.batch = lambda i, take=take: pytest.fail("stopped") if i == stop else take(i)
            with pytest.raises(pytest.fail.Exception):
                train(run)
            stopped = True
        else:
            train(run)
        # Nobody closes the log of a run that is killed.
    for name, phase in (("loss", "train"), ("grad_norm", "train"), ("remote_products", "train"), ("eval_loss", "eval")):
        assert by_step(tmp_path / "live.jsonl", name, phase) == by_step(directory / "live.jsonl", name, phase)
    for tag in ("train/loss", "eval/loss"):
        assert scalars(tmp_path / "tensorboard", tag) == scalars(directory / "tensorboard", tag)


def test_half_a_line_is_cut_off(told, tmp_path):
    path = tmp_path / "live.jsonl"
    text = (told[0] / "live.jsonl").read_text().splitlines(keepends=True)
    path.write_text("".join(text[:3]) + text[3][:40])
    (log,) = logs(["jsonl"], "told", tmp_path)
    log.start(told[1], 7)
    log.close()
    assert path.read_text() == "".join(text[:3])


def test_nobody_else_may_read_a_log(told):
    files = [told[0] / "live.jsonl", *(told[0] / "tensorboard").iterdir()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_data_and_logs_of_other_runs_are_not_overwritten(told, tmp_path):
    data = tmp_path / "my.jsonl"
    data.write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(UserError, match=r"my\.jsonl is there and is no log of a run: give another path"):
        logs([f"jsonl:{data}"], "told", tmp_path)
    assert "question" in data.read_text()
    with pytest.raises(UserError, match=r"is the log of the run told, not of other: give another path"):
        logs([f"jsonl:{told[0] / 'live.jsonl'}"], "other", tmp_path)


RUN = "--model nano --data math_problems --backend integer --activation-bits 8 --weight-bits 8 --quiet".split()


@pytest.mark.parametrize(
    ("log_to", "message"),
    [
        ("csv", "--log-to takes jsonl, jsonl:FILE, tensorboard or tensorboard:DIRECTORY, not 'csv'"),
        ("jsonl:/proc/no/log", "--log-to jsonl: cannot write /proc/no/log: No such file or directory"),
        ("tensorboard:/proc/no/logs", "--log-to tensorboard: cannot write /proc/no/logs: No such file or directory"),
    ],
)
def test_a_log_that_cannot_be_is_refused_before_any_work(log_to, message, tmp_path, capsys):
    assert main(["finetune", *RUN, "--out", str(tmp_path / "run"), "--log-to", log_to]) == 2
    assert capsys.readouterr().err.strip() == f"private-lora finetune: {message}"
    assert not (tmp_path / "run").exists()


def test_without_tensorboard_a_sentence_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("private_lora.training.logs.find_spec", lambda name: None)
    assert main(["finetune", *RUN, "--out", str(tmp_path / "run"), "--log-to", "tensorboard"]) == 2
    assert "needs a package that is not installed: pip install 'tensorboard>=2.20,<3'" in capsys.readouterr().err


def test_several_runs_do_not_share_a_log(make_spec, tmp_path, capsys):
    words = ["--spec", make_spec().to_json(), "--out", str(tmp_path / "all.csv"), "--runs", str(tmp_path / "runs")]
    assert main(["finetune", *words, "--quiet", "--log-to", "jsonl:x.jsonl"]) == 2
    assert "with --runs each run has its own log beside its records: leave out the path" in capsys.readouterr().err


class Broken:
    """A listener whose disk is full."""

    told = 0

    def start(self, spec, first):
        pass

    def on_evaluation(self, step, values):
        self.told += 1
        raise OSError("No space left on device")


def test_a_run_outlives_its_log(make_spec, tmp_path):
    run, broken = prepare(make_spec(steps=2), tmp_path), Broken()
    run.live = Live([broken])
    with pytest.warns(UserWarning, match="cannot go on and is left: No space left on device"):
        train(run)
    assert (run.step, broken.told) == (2, 1)


def step_of(number, **more):
    return Step(number, 3, 2.5, 1.0, 1e-3, 0.5, 96, 192.0, 5400.0, **more)


def test_a_log_gets_a_line_now_and_then(make_spec, monkeypatch, caplog):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    caplog.set_level(logging.INFO)
    lines = progress()
    lines.start(make_spec(), 1)
    counted = {"remote_products": 2890, "encrypted_products": 2890, "upload_bytes": 12_340_000, "download_bytes": 8_100_000}
    for number in (1, 2, 3):
        lines.on_step(step_of(number, **counted))
    first, last = caplog.messages
    assert first == (
        "tiny step 1/3: loss 2.500, 90 min left, 192 tokens/s, 12.3 MB up, 8.1 MB down, 2,890 of 2,890 products encrypted"
    ).replace("90 min", "1 h 30 min")
    assert last.startswith("tiny step 3/3: loss 2.500")


def test_a_terminal_gets_one_line_that_changes(make_spec, monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr("private_lora.training.live.BAR_S", 0.0)
        bar = progress()
        bar.start(make_spec(steps=3), 2)
        bar.on_step(step_of(2))
        bar.on_step(step_of(3))
        bar.close()
        terminal.flush()
        text = os.read(ours, 10_000).decode()
    os.close(ours)
    pictures = [picture.rstrip() for picture in re.split(r"\r+\n?", text) if picture.strip()]
    assert pictures[0].startswith("tiny 1/3") and pictures[-1].startswith("tiny 3/3")
    assert "loss 2.500, 1 h 30 min left" in pictures[-1]
    assert max(map(len, pictures)) <= 60
    assert "\n" not in text.strip()


def test_the_page_has_every_field():
    (table,) = re.findall(r"^\| field \|.*?\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    documented = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.strip().splitlines()[2:]))
    assert documented == ["run_id", "phase", "timestamp", *(field.name for field in fields(Step)), "eval_loss"]
    assert set(asdict(step_of(1))) < set(documented)
