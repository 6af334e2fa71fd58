"""A job of two runs killed in the second, and `snakemake` again: the same curves, and nothing computed twice that was kept."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from workflow_tree import STUDY, Tree

FIRST = "sweep_nano_float_seed0"
RUN = "sweep_nano_integer_dynamic-token_static-channel_8bit_seed0"
TRAINING = {"steps": 100, "batch_size": 2, "train_examples": 50, "eval_examples": 4, "eval_every": 0, "checkpoint_every": 5}


def study(results: str) -> dict:
    groups = [{"model": "nano", "backends": ["float", "integer"], "bits": [8]}]
    return STUDY | {"results": results, "training": TRAINING | {"generate_examples": 0}, "sweep": {"groups": groups}}


def command(tree: Tree, results: str) -> list[str]:
    target = f"{results}/data/jobs/sweep-1.csv"
    config = tree.configure(f"{results}.yaml", study(results))
    return [sys.executable, "-m", "snakemake", target, "--cores", "1", "--configfile", config]


def run(tree: Tree, results: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(tree.root / "src")}
    subprocess.run(command(tree, results), cwd=tree.root, env=environment, check=True, capture_output=True)


def kill_trainer_at_checkpoint_of_the_second_run(tree: Tree, results: str) -> int:
    """Snakemake's exit status after its training process was killed with signal 9."""
    environment = os.environ | {"PYTHONPATH": str(tree.root / "src")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    workflow = subprocess.Popen(command(tree, results), cwd=tree.root, env=environment, **quiet)
    deadline = time.monotonic() + 180
    while not list((tree.root / results).glob(f"checkpoints/{RUN}*.pt")):
        assert workflow.poll() is None, "the run ended before it wrote a checkpoint"
        assert time.monotonic() < deadline, "no checkpoint after three minutes"
        time.sleep(0.02)
    for child in psutil.Process(workflow.pid).children(recursive=True):
        # The job's process takes the run that it forked with it, maybe before it is that one's turn.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "finetune" in " ".join(child.cmdline()):
                child.send_signal(signal.SIGKILL)
    return workflow.wait(timeout=60)


def losses(records: Path) -> list[tuple[str, str, str]]:
    with records.open() as handle:
        return [(r["phase"], r["step"], r["value"]) for r in csv.DictReader(handle) if r["metric"] == "loss"]


def test_a_killed_training_job_resumes_to_the_same_curve(tree):
    run(tree, "whole")
    assert kill_trainer_at_checkpoint_of_the_second_run(tree, "killed") != 0
    first, second = (tree.root / "killed/runs" / run_id / "records.csv" for run_id in (FIRST, RUN))
    assert not second.exists()
    done = first.stat().st_mtime_ns
    run(tree, "killed")
    assert first.stat().st_mtime_ns == done
    for run_id in (FIRST, RUN):
        whole, killed = (losses(tree.root / name / "runs" / run_id / "records.csv") for name in ("whole", "killed"))
        assert len(whole) == 100 + 2
        assert killed == whole
    rows = [(tree.root / name / "data/jobs/sweep-1.csv").read_text().count("\n") for name in ("whole", "killed")]
    assert rows[0] == rows[1]
