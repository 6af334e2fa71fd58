"""A small study through a real Slurm of one node: the jobs are Slurm's, the numbers those of a local run."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import one_node
import pytest
from workflow_tree import STUDY, Tree, copy_tree

MISSING = one_node.missing_programs()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"Slurm is not installed here: no {', '.join(MISSING)}"),
]

TRAINING = {"steps": 2, "warmup_steps": 1, "batch_size": 2, "sequence_length": 32, "train_examples": 20, "eval_examples": 4}
SMALL = STUDY | {
    "training": TRAINING | {"generate_examples": 0},
    "layer": {"groups": []},
    "loopback": {"groups": []},
    "memory_mb": {"default": 500, "block": 500},
    "publish": {"tables": ["final_loss", "runs"], "figures": ["loss_curves"]},
}
# Jobs that go to Slurm; collecting and publishing stays with Snakemake.
SUBMITTED = {"rule_finetune": 1, "rule_block_job": 1}
# The threads of a job by the directory of its results.
THREADS = {"runs": 1, "block": one_node.cores()}


@pytest.fixture(scope="module")
def node():
    """Environment variables of a running node, and the directory of its files."""
    # Not pytest's own directory: a socket's path may have 108 characters.
    with tempfile.TemporaryDirectory(prefix="slurm-") as directory:
        try:
            yield one_node.start(Path(directory)), Path(directory)
        finally:
            one_node.stop(Path(directory))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Tree:
    return copy_tree(tmp_path_factory.mktemp("slurm"))


def through_slurm(tree: Tree, variables: dict[str, str], config: str) -> str:
    """Output of Snakemake with the profile for Slurm, adapted to a node of this machine's cores without accounting."""
    options = f"--workflow-profile profiles/slurm --max-threads {one_node.cores()} --slurm-status-command squeue"
    options += f" --slurm-init-seconds-before-status-checks 1 --configfile {config}"
    environment = os.environ | variables | {"PYTHONPATH": str(tree.root / "src")}
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", *options.split()],
        cwd=tree.root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def output(tree, node) -> str:
    """What Snakemake said when it ran the study through Slurm."""
    return through_slurm(tree, node[0], tree.configure("cluster.yaml", SMALL | {"results": "cluster"}))


def known_jobs(variables: dict[str, str]) -> dict[str, dict[str, str]]:
    """All jobs that Slurm remembers, by id: state, cores, memory, time limit and comment."""
    command = ["squeue", "--states=all", "--noheader", "--format=%i|%T|%C|%m|%l|%k"]
    listed = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True).stdout
    fields = ("state", "cores", "memory", "limit", "comment")
    return {line.split("|")[0]: dict(zip(fields, line.split("|")[1:], strict=True)) for line in listed.splitlines()}


def test_slurm_ran_the_jobs_with_what_their_rules_ask_for(output, node):
    variables, directory = node
    jobs = known_jobs(variables)
    assert set(jobs) == set(re.findall(r"submitted with SLURM jobid (\d+)", output))
    assert {(job["state"], job["memory"]) for job in jobs.values()} == {("COMPLETED", "500M")}
    for rule, count in SUBMITTED.items():
        of_rule = [job for job in jobs.values() if job["comment"].startswith(f"{rule}_wildcards_")]
        assert len(of_rule) == count
        assert {job["cores"] for job in of_rule} == {"1" if rule == "rule_finetune" else str(one_node.cores())}
        assert {job["limit"] for job in of_rule} == {"1-00:00:00" if rule == "rule_finetune" else "6:00:00"}
    assert len(jobs) == sum(SUBMITTED.values())
    assert (directory / "jobs.log").read_text().count("JobState=COMPLETED") == len(jobs)


def test_a_job_keeps_to_its_cores_and_the_settings_of_memory(output, tree):
    for kind, threads in THREADS.items():
        sidecars = [json.loads(path.read_text()) for path in tree.root.glob(f"cluster/{kind}/*/sidecar.json")]
        assert {sidecar["environment"]["threads"]["OMP_NUM_THREADS"] for sidecar in sidecars} == {str(threads)}
        assert all("hugetlb=1" in sidecar["environment"]["malloc"] for sidecar in sidecars)


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a collected CSV that are the same on every machine and every day: neither times nor memory."""
    with path.open(newline="") as handle:
        return [row for row in csv.DictReader(handle) if row["unit"] != "s" and row["metric"] != "peak_memory_bytes"]


def test_the_numbers_are_those_of_a_local_run(output, tree):
    local = tree.snakemake("--configfile", tree.configure("local.yaml", SMALL | {"results": "local"}))
    assert local.returncode == 0, local.stdout
    table = (tree.root / "cluster/tables/final_loss.csv").read_bytes()
    assert table == (tree.root / "local/tables/final_loss.csv").read_bytes()
    through, alone = (rows(tree.root / name / "data/convergence.csv") for name in ("cluster", "local"))
    assert through == alone
    assert {row["step"] for row in through if row["metric"] == "loss"} == {"0", "1", "2"}
    assert (tree.root / "cluster/figures/loss_curves.png").stat().st_size > 0


def test_a_second_call_has_nothing_to_do(output, tree, node):
    before = len(known_jobs(node[0]))
    assert "Nothing to be done" in through_slurm(tree, node[0], "cluster.yaml")
    assert len(known_jobs(node[0])) == before
