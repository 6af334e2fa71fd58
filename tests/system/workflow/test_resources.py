"""What jobs ask a cluster for, planned with the profile for Slurm; no Slurm needed."""

from __future__ import annotations

import re

import pytest

PROFILE = ["--workflow-profile", "profiles/slurm", "--dry-run"]


def planned(tree, config: str, *options: str) -> list[dict[str, str]]:
    """Rule, threads and resources of every job."""
    result = tree.snakemake(*PROFILE, *options, "--configfile", config)
    assert result.returncode == 0, result.stdout
    jobs = []
    for text in re.split(r"^rule ", result.stdout, flags=re.M)[1:]:
        resources = re.search(r"^    resources: (.*)$", text, re.M)[1]
        threads = re.search(r"^    threads: (\d+)$", text, re.M)
        job = dict(pair.split("=", 1) for pair in resources.split(", "))
        jobs.append(job | {"rule": text.split(":")[0], "threads": threads[1] if threads else "1"})
    return jobs


@pytest.fixture(scope="module")
def smoke(tree) -> list[dict[str, str]]:
    """The jobs of the small study on nodes of 64 cores, of which the profile is told 48."""
    return planned(tree, "config/smoke.yaml", "--cores", "64", "--max-threads", "48")


def test_every_job_of_a_cluster_has_cores_memory_and_time(smoke):
    for job in smoke:
        assert int(job["mem_mb"]) >= 500, job
        assert int(job["runtime"]) >= 60, job
        assert job["threads"] in ("1", "48"), job
    assert {job["threads"] for job in smoke if job["rule"] in ("layer_job", "block_job")} == {"48"}


def test_what_takes_all_cores_has_its_node_to_itself(smoke):
    assert {(job["threads"], job["slurm_extra"]) for job in smoke} == {("1", ""), ("48", "--exclusive")}


def test_a_gpu_is_asked_for_where_the_device_is_one(tree, smoke):
    blocks = [job for job in planned(tree, "config/studies/gpu.yaml", "--cores", "64") if job["rule"] == "block_job"]
    assert blocks
    assert {job["gpu"] for job in blocks} == {"1"}
    assert {job.get("gpu", "0") for job in smoke} == {"0"}
