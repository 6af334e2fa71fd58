"""What a private run writes is its owner's alone, whatever the umask; what is published follows the umask."""

import json
import os
import stat
from contextlib import contextmanager

import pytest
from slow_tests import slow

from private_lora.bench.loopback import run_on_loopback
from private_lora.core.files import atomic_path
from private_lora.results.recorder import collect
from private_lora.specs.loopback import LoopbackSpec
from private_lora.specs.options import HINTS_VARIABLE
from private_lora.training.checkpoints import Checkpoint
from private_lora.training.logs import logs
from private_lora.training.run import finetune

PACKED = {"backend": "packed", "steps": 1, "checkpoint_every": 1, "eval_examples": 2}


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def readable_by_others(root):
    """Files and directories below `root` that have any bit for group or others, and how many there are in all."""
    entries = list(root.rglob("*"))
    return [str(path.relative_to(root)) for path in entries if stat.S_IMODE(path.stat().st_mode) & 0o077], len(entries)


@pytest.fixture
def private_data(tmp_path):
    path = tmp_path / "mine.jsonl"
    pairs = [{"question": f"The code of room {i}?", "answer": str(7 * i)} for i in range(60)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return {"data": "jsonl", "data_options": {"path": str(path)}}


@pytest.mark.parametrize("mask", [0o000, slow(0o022)])
def test_nothing_of_a_private_run_can_be_read_by_others(mask, make_spec, private_data, tmp_path, monkeypatch):
    out, hints, temporary = (tmp_path / name for name in ("out", "hints", "temporary"))
    temporary.mkdir()
    monkeypatch.setenv(HINTS_VARIABLE, str(hints))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    seen = []

    def look():
        # While the run goes on: checkpoints, half-written files, the seed's ledger.
        seen.append([name for root in (out, hints, temporary) if root.exists() for name in readable_by_others(root)[0]])

    save, replace = Checkpoint.save, os.replace
    monkeypatch.setattr(Checkpoint, "save", lambda *a: (save(*a), look())[0])
    monkeypatch.setattr(os, "replace", lambda *a: (look(), replace(*a))[1])
    records = out / "runs" / "a" / "records.csv"
    spec = make_spec(**PACKED, **private_data)
    with umask(mask):
        finetune(spec, records, out / "checkpoints", listeners=logs(["jsonl", "tensorboard"], "tiny", records.parent))
        collect([records], out / "data" / "convergence.csv")
    look()
    assert len(seen) > 5 and not any(seen), seen
    assert {"adapter", "records.csv", "sidecar.json", "live.jsonl", "tensorboard"} <= {p.name for p in records.parent.iterdir()}
    assert (hints / "masks.json").is_file() and list(hints.glob("*.hint"))


@pytest.mark.slow
def test_nothing_of_a_run_through_workers_can_be_read_by_others(make_spec, private_data, tmp_path):
    out = tmp_path / "out"
    run = make_spec(**PACKED, **private_data)
    with umask(0o000):
        run_on_loopback(
            LoopbackSpec(run_id="l", run=run.to_dict(), workers=[""]), out / "l" / "records.csv", out / "checkpoints"
        )
    found, count = readable_by_others(out)
    assert found == [] and count > 5
    assert (out / "l" / "worker-0.log").is_file()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_what_is_published_follows_the_umask(mask, mode, tmp_path):
    path = tmp_path / "new" / "report.html"
    with umask(mask), atomic_path(path, shared=True) as temporary:
        temporary.write_text("table")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o777 & ~mask


def test_a_directory_that_is_there_keeps_its_mode(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o755)
    with atomic_path(tmp_path / "mine" / "losses.csv") as temporary:
        temporary.write_text("loss")
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "mine" / "losses.csv").stat().st_mode) == 0o600
