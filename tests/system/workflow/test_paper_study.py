"""The study of the paper: planned without network or weights, run for real with small models where the hub's would stand."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from workflow_tree import ROOT, Tree, copy_tree

from private_lora.data.sources.jsonl import read_jsonl
from private_lora.data.sources.math_problems import examples
from private_lora.models.load import model_hash
from private_lora.publish.tables import TABLES
from private_lora.results.reader import Data
from private_lora.results.recorder import collect
from private_lora.study.config import load_study, read_yaml
from private_lora.study.jobs import batches

PAPER = ROOT / "config/studies/paper.yaml"
LLAMA, GPT2 = "meta-llama/Llama-3.2-1B", "openai-community/gpt2"
SHORT = {"steps": 2, "train_examples": 8, "eval_examples": 2, "eval_every": 0}
BOTH = ("loss", "perplexity", "loss_without_padding", "perplexity_without_padding")


@pytest.fixture(scope="module")
def paper():
    """The study as it is in the repository."""
    return load_study([PAPER])


def test_the_plan_needs_neither_network_nor_weights(tree, paper, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty cache"))
    jobs = tree.jobs("config/studies/paper.yaml")
    assert jobs["finetune"] == len(paper.runs) == 23
    assert not {"layer", "block"} & set(jobs)
    assert jobs["publish"] == 1
    assert Counter((spec.stage, spec.model) for spec in paper.runs.values()) == {
        ("sweep", LLAMA): 12,
        ("sweep", GPT2): 5,
        ("encrypted", LLAMA): 6,
    }


def test_the_sweep_has_exactly_the_six_published_curves(paper):
    with open(ROOT / "resources/reference/convergence_curves.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    published = {(r["bits"], r["activation_quantizer"], r["weight_quantizer"]) for r in rows}
    curves = [r for r in paper.runs.values() if r.variant == "128 tokens"]
    runs = [r for r in curves if r.weight_quantizer != "symmetric_per_tensor"]
    again = [r for r in curves if r not in runs]
    assert [(r.activation_quantizer, r.activation_bits, r.calibration) for r in again] == [
        ("static_per_tensor", bits, "random") for bits in (8, 16)
    ]
    ours = [
        ("float32", "none", "none")
        if r.backend == "float"
        else (str(r.activation_bits), r.activation_quantizer, r.weight_quantizer)
        for r in runs
    ]
    assert len(ours) == 6
    assert set(ours) == published
    assert {r.backend for r in runs} == {"float", "integer"}
    assert {r.steps for r in runs} == {max(int(r["step"]) for r in rows)}
    assert all(r.steps * r.batch_size == r.train_examples for r in runs)


def test_encrypted_steps_are_twins_at_seven_bits_that_evaluate_nothing(paper):
    runs = {(r.backend, r.variant): r for r in paper.runs.values() if r.stage == "encrypted"}
    concrete_ml = {("concrete_ml", "clear 5 steps"), ("concrete_ml", "execute 5 steps")}
    assert set(runs) == {(name, "5 steps") for name in ("float", "integer", "packed", "glwe")} | concrete_ml
    assert {(r.activation_bits, r.weight_bits) for r in runs.values() if r.backend != "float"} == {(7, 7)}
    own = {"run_id", "backend", "backend_options", "variant", "activation_bits", "weight_bits", "constant_rows", "recompute"}
    first, *others = ({k: v for k, v in r.to_dict().items() if k not in own} for r in runs.values())
    assert all(other == first for other in others)
    assert (first["steps"], first["eval_examples"], first["generate_examples"]) == (5, 0, 0)
    epoch = next(r for r in paper.runs.values() if r.variant == "epoch of 64 tokens")
    differ = {name for name, value in first.items() if name not in own and getattr(epoch, name) != value}
    assert differ == {"stage", "steps", "eval_examples", "eval_every", "checkpoint_every"}


def test_every_run_calls_each_layer_apart_at_a_named_revision(paper):
    assert {r.share_inputs for r in paper.runs.values()} == {False}
    assert all(r.revision for r in paper.runs.values())
    assert {r.recompute for r in paper.runs.values() if r.model == LLAMA and r.backend != "concrete_ml"} == {True}


def test_questions_about_fhe_fill_twenty_epochs():
    pairs = read_jsonl(ROOT / "resources/fhe-questions/fhe_questions.jsonl", {})
    assert len(pairs) == len({pair.prompt for pair in pairs}) == 34
    groups = [g["training"] for g in read_yaml(PAPER)["sweep"]["groups"] if g["model"] == GPT2]
    batch_size = read_yaml(PAPER)["training"]["batch_size"]
    assert [g["train_examples"] + g["eval_examples"] for g in groups] == [len(pairs)] * 2
    # As published, the last batch of an epoch is a short one; ours hold out some, and run on into the next epoch.
    assert groups[0]["steps"] == 20 * math.ceil(len(pairs) / batch_size)
    assert groups[1]["steps"] * batch_size == 20 * groups[1]["train_examples"]


def test_snippets_are_ours_to_compile_and_short():
    snippets = read_jsonl(ROOT / "resources/code-snippets/code_snippets.jsonl", {})
    assert len(snippets) == len({snippet.completion for snippet in snippets}) == 46
    assert all(not snippet.prompt and len(snippet.completion) < 350 for snippet in snippets)
    for snippet in snippets:
        compile(snippet.completion, "snippet", "exec")


def write_problems(path: Path, count: int) -> None:
    """Generated problems in the fields of the hub's data set."""
    with open(path, "w") as handle:
        for problem in islice(examples({}, "train", 0), count):
            handle.write(json.dumps({"question": problem.prompt.strip(), "answer": problem.completion}) + "\n")


def replaced(values: dict, changes: dict) -> None:
    """Change keys that are there; a key that is gone is an error."""
    for key, value in changes.items():
        assert key in values, key
        values[key] = value


def small_study() -> dict:
    """The paper's configuration, its models and data replaced by local ones and its runs cut to two steps."""
    config = read_yaml(PAPER)
    local = {"data": "jsonl", "data_options": {"path": "problems.jsonl"}}
    replaced(config["training"], local | SHORT | {"generate_examples": 0, "checkpoint_every": 1})
    replaced(config["encrypted"]["training"], {"data": "jsonl", "steps": 2, "train_examples": 8})
    for group in config["sweep"]["groups"] + config["encrypted"]["groups"]:
        directory = {LLAMA: "./models/llama", GPT2: "./models/gpt2"}[group["model"]]
        replaced(group, {"model": directory, "revision": None})
    for group in config["sweep"]["groups"]:
        training = group.get("training", {})
        if "steps" in training:
            replaced(training, {"steps": 2} if "data" in training else {"steps": 2, "train_examples": 8, "eval_examples": 2})
    return config


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_llama_directory, tiny_gpt2_directory) -> Tree:
    """A copy of the repository with small models and problems, and the study over them as small.yaml."""
    tree = copy_tree(tmp_path_factory.mktemp("paper"))
    shutil.copytree(tiny_llama_directory, tree.root / "models/llama")
    shutil.copytree(tiny_gpt2_directory, tree.root / "models/gpt2")
    write_problems(tree.root / "problems.jsonl", 40)
    tree.configure("small.yaml", small_study())
    return tree


def rows_of(tree: Tree, run_id: str) -> list[dict]:
    with open(tree.root / "results/paper/runs" / run_id / "records.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_same_runs_are_planned_for_a_local_model(small, paper, monkeypatch):
    monkeypatch.chdir(small.root)
    study = load_study(["small.yaml"])
    assert [re.sub("models-(llama|gpt2)", "", name) for name in study.runs] == [
        name.replace("meta-llama-Llama-3.2-1B", "").replace("openai-community-gpt2", "") for name in paper.runs
    ]
    assert small.jobs("small.yaml")["finetune"] == len(paper.runs)


@pytest.mark.slow
def test_the_study_runs_for_real(small, monkeypatch):
    token = "integer_dynamic-token_static-channel_8bit_seed0"
    models = {"float_128-tokens_seed0": "llama", token.replace("integer", "integer_128-tokens"): "llama"}
    models |= {token.replace("integer", "integer_34-questions"): "gpt2"}
    models = {f"sweep_models-{model}_{name}": model for name, model in models.items()}
    monkeypatch.chdir(small.root)
    planned = batches(load_study(["small.yaml"]).runs.values())
    jobs = [name for name, batch in planned.items() if batch.specs[0].run_id in models]
    assert len(jobs) == len(models)
    targets = [f"results/paper/data/jobs/{name}.csv" for name in jobs]
    result = small.snakemake(*targets, "--configfile", "small.yaml")
    assert result.returncode == 0, result.stdout
    for run_id, model in models.items():
        rows = rows_of(small, run_id)
        trained = [r for r in rows if (r["phase"], r["metric"]) == ("train", "loss")]
        evaluated = [r for r in rows if r["phase"] == "eval"]
        assert [r["step"] for r in trained] == ["1", "2"]
        # Nothing is held out of the questions.
        steps = ("0", "2") if model == "llama" else ()
        assert [(r["step"], r["metric"]) for r in evaluated] == [(step, metric) for step in steps for metric in BOTH]
        assert all(math.isfinite(float(r["value"])) for r in trained + evaluated)
        assert {r["status"] for r in rows} == {"ok"}
        sidecar = json.loads((small.root / "results/paper/runs" / run_id / "sidecar.json").read_text())
        assert sidecar["model_hash"] == model_hash(str(small.root / "models" / model))
        assert sidecar["data"]["examples"] == (SHORT["train_examples"] if model == "llama" else 34)
        assert ("longer_left_out" in sidecar["data"]) == (model == "llama")
    publish(small, targets, monkeypatch)


def publish(tree: Tree, targets: list[str], monkeypatch) -> None:
    """Collect the rows and look at the table that they make."""
    monkeypatch.chdir(tree.root)
    collect([Path(target) for target in targets], Path("results/paper/data/convergence.csv"))
    table = TABLES["final_loss"](Data("results/paper/data"))
    assert len(table) == len(targets)
    evaluated = table[table["model"].str.contains("llama")]
    assert evaluated[["loss_without_padding", "perplexity_without_padding"]].notna().all(axis=None)
    assert set(table["basis"]) == {"measured"}
