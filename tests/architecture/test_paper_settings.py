"""The page of published settings: its published column is the reference's, its own column what the study's runs say."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from private_lora.study.config import load_study

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "resources/reference/published_settings.csv"
# By heading: stage and variant of the runs.
EXPERIMENTS = {
    "Convergence: six curves": ("sweep", "128 tokens"),
    "An epoch at seven bits": ("sweep", "epoch of 64 tokens"),
    "Five steps, encrypted and clear": ("encrypted", "5 steps"),
    "GPT-2 on questions about FHE": ("sweep", "34 questions"),
    "Code snippets": ("sweep", "46 snippets"),
}
# What a run that does not quantize has by default only.
OF_QUANTIZATION = {"activation_bits", "activation_quantizer", "weight_quantizer", "constant_rows", "calibration"}


def sections() -> dict[str, list[list[str]]]:
    """Cells of the table under each heading of an experiment."""
    found = {}
    for section in (ROOT / "docs/paper_settings.md").read_text().split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        if heading in EXPERIMENTS:
            lines = [line for line in body.splitlines() if line.startswith("| `")]
            found[heading] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


SECTIONS = sections()


@pytest.fixture(scope="module")
def runs():
    return load_study([ROOT / "config/studies/paper.yaml"]).runs.values()


def setting_of(run, name: str):
    """A field of a run, or an option in one: `data_options.name`."""
    value = run.to_dict()
    for part in name.split("."):
        value = value[part]
    return value


def test_every_experiment_has_its_table():
    assert SECTIONS.keys() == EXPERIMENTS.keys()
    assert all(SECTIONS.values())


@pytest.mark.parametrize("heading", EXPERIMENTS)
def test_ours_is_what_the_runs_say(heading, runs):
    stage, variant = EXPERIMENTS[heading]
    chosen = [run for run in runs if run.stage == stage and run.variant.endswith(variant)]
    assert chosen
    for setting, _, _, ours, _ in SECTIONS[heading]:
        name = setting.strip("`")
        meant = [run for run in chosen if name not in OF_QUANTIZATION or run.activation_bits is not None]
        if name in ("activation_quantizer", "weight_quantizer", "calibration"):
            meant = [run for run in meant if run.backend != "concrete_ml"]  # it records what it took
        found = {json.dumps(setting_of(run, name)) for run in meant}
        assert set(re.findall(r"`([^`]+)`", ours)) == found, name


@pytest.mark.parametrize("heading", EXPERIMENTS)
def test_published_is_what_the_reference_says(heading):
    _, experiment = EXPERIMENTS[heading]
    with open(REFERENCE, newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["experiment"] == experiment]
    marks = {"certain": "", "inferred": ", inferred"}
    assert [line[:3] for line in SECTIONS[heading]] == [
        [f"`{row['setting']}`", f"`{row['published']}`", f"`{row['source']}`{marks[row['certainty']]}"] for row in rows
    ]


def test_every_difference_says_why():
    assert all(why for lines in SECTIONS.values() for *_, why in lines)


def test_every_group_runs_on_stand_ins_under_the_same_keys():
    """The same runs but for model, size and data, and no setting of the study that the stand-ins do not have."""
    ours, stand_ins = (load_study([ROOT / f"config/studies/{name}.yaml"]).runs.values() for name in ("paper", "paper_standin"))
    changed = {"model", "revision", "weights", "blocks", "run_id", "data", "data_options", "steps", "checkpoint_every"}
    changed |= {"train_examples", "eval_examples", "eval_every"}
    of_few_tokens = {"longer", "sequence_length"}
    for run, stand_in in zip(ours, stand_ins, strict=True):
        slow = run.backend == "glwe" or "execute" in run.variant
        left_out = changed | (of_few_tokens if slow else set())
        kept = [{k: v for k, v in r.to_dict().items() if k not in left_out} for r in (run, stand_in)]
        assert kept[0] == kept[1], run.run_id
