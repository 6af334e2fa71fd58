"""Which jobs the configurations of the repository schedule."""

import re
import shlex

import pytest
from workflow_tree import ROOT

from private_lora.cli.main import build_parser
from private_lora.specs.run import RunSpec
from private_lora.study.config import load_study
from private_lora.study.jobs import LONGEST_S, START_S, Batch, batches

GPU = ROOT / "config/studies/gpu.yaml"
MEASURED = {"finetune", "loopback_job", "generation_job", "estimate_job", "layer_job", "block_job", "worker_view_job"}


def batches_of(study) -> list[Batch]:
    """The jobs that run and measure something."""
    return list(batches([*study.runs.values(), *study.measurements]).values())


@pytest.mark.parametrize("name", ["config", "smoke", "studies/full"])
def test_every_run_of_the_grid_is_in_one_job(tree, name):
    study = load_study([ROOT / f"config/{name}.yaml"])
    jobs = tree.jobs(f"config/{name}.yaml")
    found = batches_of(study)
    assert sum(jobs[rule] for rule in MEASURED) == len(found)
    assert jobs.keys() - MEASURED == {"kernels", "publish", "report", "all", "total"}
    ids = [spec.run_id for batch in found for spec in batch.specs]
    assert ids == [*study.runs, *(spec.run_id for spec in study.measurements)]


def test_jobs_hold_neighbours_of_one_stage_and_stay_short():
    for batch in batches_of(load_study([])):
        assert len({spec.stage for spec in batch.specs}) == 1
        assert len(batch.specs) == 1 or batch.seconds <= LONGEST_S + START_S
        assert all(batch.memory_bus == 0 or spec.backend == "glwe" for spec in batch.specs if isinstance(spec, RunSpec))


def test_a_stage_is_a_target(tree):
    for stage, rule in (("sweep", "finetune"), ("full_size", "finetune"), ("block", "block_job"), ("loopback", "loopback_job")):
        result = tree.snakemake(stage, "--dry-run", "--quiet", "rules", "--configfile", "config/smoke.yaml")
        assert result.returncode == 0, result.stdout
        assert {name for name in (*MEASURED, "publish") if re.search(rf"^{name} ", result.stdout, re.M)} == {rule}


@pytest.mark.parametrize(
    "target", ["publish", "report", "costs", "results/smoke/figures/loss_curves.png", "results/smoke/tables/runs.csv"]
)
def test_what_is_published_is_a_target(tree, target):
    result = tree.snakemake(target, "--dry-run", "--quiet", "rules", "--configfile", "config/smoke.yaml")
    assert result.returncode == 0, result.stdout
    assert re.search(r"^publish +1$", result.stdout, re.M)


def test_gpu_study_is_planned_without_a_gpu(tree):
    study = load_study([GPU])
    jobs = tree.jobs(str(GPU.relative_to(ROOT)))
    assert len(study.blocks) == 8
    assert jobs.keys() == {"block_job", "kernels", "publish", "report", "all", "total"}
    assert {"block_utilisation", "block_latency"} <= {*study.tables, *study.figures}


def test_smoke_touches_every_stage_and_every_backend():
    default, smoke = (load_study([ROOT / f"config/{name}.yaml"]) for name in ("config", "smoke"))
    assert smoke.results != default.results
    for part in ("stage", "backend"):
        seen = [{getattr(spec, part) for spec in study.runs.values()} for study in (default, smoke)]
        assert seen[0] == seen[1]
    assert set(smoke.generations) == set(default.generations)
    assert smoke.worker_views == default.worker_views
    assert set(smoke.loopbacks) < set(default.loopbacks)
    assert {bool(spec.workers) for spec in smoke.loopbacks.values()} == {False, True}
    assert {spec.backend for spec in default.layers.values()} == {spec.backend for spec in smoke.layers.values()}
    measured = [
        {(b["name"], spec.share_inputs) for spec in study.blocks.values() for b in spec.backends} for study in (default, smoke)
    ]
    assert measured[0] == measured[1]


def test_what_left_the_default_study_is_in_the_full_one():
    default, full = load_study([]), load_study([ROOT / "config/studies/full.yaml"])
    assert full.results != default.results
    for kind in ("runs", "loopbacks", "generations", "estimates", "layers", "blocks", "worker_views"):
        ours, theirs = getattr(default, kind), getattr(full, kind)
        assert {run_id for run_id in ours if run_id in theirs and ours[run_id] != theirs[run_id]} == set()
    smaller = {run_id for run_id in default.runs if run_id not in full.runs}
    assert all(re.search("1-step|10-steps|6-tokens", run_id) for run_id in smaller), smaller


def test_recorded_study_schedules_nothing_heavy(tree):
    assert tree.jobs("config/recorded.yaml") == {"publish": 1, "report": 1, "all": 1, "total": 3}
    job = "results/recorded-published/data/jobs/sweep-1.csv"
    assert tree.snakemake("--dry-run", "--configfile", "config/recorded.yaml", job).returncode != 0


def test_pretrain_is_there_on_request(tree):
    result = tree.snakemake("pretrain", "--dry-run", "--quiet", "rules")
    assert result.returncode == 0, result.stdout
    assert "pretrain_mini_llama" in result.stdout
    assert "finetune" not in result.stdout


def test_every_command_of_the_rules_is_one_that_the_command_line_knows(tree):
    result = tree.snakemake("--dry-run", "--printshellcmds", "--configfile", "config/smoke.yaml", "--", "all", "pretrain")
    assert result.returncode == 0, result.stdout
    lines = re.findall(r"python -m private_lora (.*?) > ", result.stdout)
    commands = [shlex.split(re.sub(r"\$\(dirname (\S+)\)", r"\1", line)) for line in lines]
    known = {"finetune", "loopback", "generation", "estimate", "layer", "block", "worker_view"}
    known |= {"compile", "publish", "report", "pretrain"}
    assert known == {command[0] for command in commands}
    for command in commands:
        build_parser(command[0]).parse_args(command)
