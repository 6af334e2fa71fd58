"""Which jobs the configurations of the repository schedule."""

import re
import shlex
from collections import Counter

import pytest
from workflow_tree import ROOT

from private_lora.cli.main import build_parser
from private_lora.study.config import load_study


@pytest.mark.parametrize("name", ["config", "smoke"])
def test_one_job_for_each_run_of_the_grid(tree, name):
    study = load_study([ROOT / f"config/{name}.yaml"])
    jobs = tree.jobs(f"config/{name}.yaml")
    assert jobs["finetune"] == len(study.runs)
    assert jobs["loopback"] == len(study.loopbacks) > 0
    assert jobs["layer"] == len(study.layers)
    assert jobs["block"] == len(study.blocks) > 0
    assert sum(rule.startswith("table_") for rule in jobs) == len(study.tables)
    assert sum(rule.startswith("figure_") for rule in jobs) == len(study.figures)
    assert not any(rule.startswith("pretrain") for rule in jobs)


def test_gpu_study_is_planned_without_a_gpu(tree):
    study = load_study([ROOT / "config/studies/gpu.yaml"])
    jobs = tree.jobs("config/studies/gpu.yaml")
    assert jobs["block"] == len(study.blocks) == 6
    assert not {"finetune", "loopback", "layer"} & set(jobs)
    published = {f"table_{name}" for name in study.tables} | {f"figure_{name}" for name in study.figures}
    assert {"table_block_utilisation", "figure_block_latency"} <= published <= set(jobs)


def test_smoke_has_the_shape_of_the_default_study():
    default, smoke = (load_study([ROOT / f"config/{name}.yaml"]) for name in ("config", "smoke"))
    assert smoke.results != default.results
    kinds = [Counter((spec.stage, spec.model, spec.backend) for spec in study.runs.values()) for study in (default, smoke)]
    assert set(kinds[0]) == set(kinds[1])
    assert set(default.loopbacks) == set(smoke.loopbacks)
    assert {spec.backend for spec in default.layers.values()} == {spec.backend for spec in smoke.latencies.values()}
    measured = [
        {(b["name"], spec.share_inputs) for spec in study.blocks.values() for b in spec.backends} for study in (default, smoke)
    ]
    assert measured[0] == measured[1]


def test_recorded_study_schedules_nothing_heavy(tree):
    jobs = tree.jobs("config/recorded.yaml")
    assert not {"finetune", "loopback", "layer", "block"} & set(jobs)
    kinds = {path.name for directory in load_study([]).beside for path in directory.glob("*.csv")}
    assert jobs.get("beside", 0) == len(kinds)
    assert {"convergence", "networks", "latencies", "blocks", "prepare", "table_claims", "figure_loss_curves"} <= set(jobs)
    run = "results/recorded-published/runs/sweep_mini-llama_float_seed0/records.csv"
    assert tree.snakemake("--dry-run", "--configfile", "config/recorded.yaml", run).returncode != 0


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
    assert {"finetune", "loopback", "layer", "block", "collect", "cost", "prepare", "table", "figure", "pretrain"} == {
        c[0] for c in commands
    }
    for command in commands:
        build_parser(command[0]).parse_args(command)
