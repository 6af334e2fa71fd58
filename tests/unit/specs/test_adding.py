"""A backend and a quantizer of somebody else: one file of code and one entry, and everything knows them."""

import csv
import os
import subprocess
import sys

import pytest
import yaml

from private_lora.core.paths import ROOT
from private_lora.specs import quantizers
from private_lora.specs.descriptors import QuantizerDescriptor
from private_lora.specs.run import RunSpec

# A package of its own, installed beside this one: what it says of itself, and its code.
ENTRY = """
from private_lora.specs.descriptors import BackendDescriptor

BACKEND = BackendDescriptor("swapped", "somebodys.backend:SwappedBackend", "rows swapped", "#123456")
"""
BACKEND = '''
"""Multiplies the rows in the clear, last one first."""

from private_lora.backends.clear.integer import IntegerBackend
from private_lora.backends.contract import ClearMessage, Client, check_activations


class SwappedBackend(IntegerBackend):
    name = "swapped"

    def client(self, plan, keys=None):
        return SwappedClient(plan)


class SwappedClient(Client):
    def encrypt(self, x):
        check_activations(self.plan, x)
        return ClearMessage(x[::-1].copy())

    def decrypt(self, message):
        return message.values[::-1].copy()
'''
ENTRY_POINT = "[private_lora.backends]\nswapped = somebodys:BACKEND\n"

QUANTIZER = '''
"""Half of a row's range: outliers are clamped."""


def half_of_each_row(low, high, calibrated):
    return low / 2, high / 2
'''
ONE_RUN = ["--model", "nano", "--data", "random_tokens", "--activation-bits", "8", "--weight-bits", "8", "--steps", "2"]
ONE_RUN += ["--batch-size", "2", "--sequence-length", "8", "--train-examples", "4", "--eval-examples", "2", "--quiet"]


def lines(*texts: str) -> int:
    """Lines that are neither empty nor a docstring."""
    return sum(bool(line.strip()) and not line.startswith('"""') for text in texts for line in text.splitlines())


@pytest.fixture
def installed(tmp_path):
    """Environment in which the package is installed."""
    package, metadata = tmp_path / "somebodys", tmp_path / "somebodys-1.0.dist-info"
    for directory in (package, metadata):
        directory.mkdir()
    (package / "__init__.py").write_text(ENTRY)
    (package / "backend.py").write_text(BACKEND)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}


def run(environment, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def losses(path) -> list[str]:
    return [row["value"] for row in csv.DictReader(path.open()) if row["metric"] == "loss"]


def test_a_backend_is_a_file_and_an_entry(installed, tmp_path):
    needed = lines(ENTRY, BACKEND, ENTRY_POINT)
    print(f"a backend: {needed} lines")
    assert needed <= 20
    for name in ("swapped", "integer"):
        run(installed, "-m", "private_lora", "finetune", "--backend", name, *ONE_RUN, "--out", str(tmp_path / name))
    assert losses(tmp_path / "swapped/records.csv") == losses(tmp_path / "integer/records.csv") != []


def test_a_backend_of_another_package_is_planned_and_in_every_list(installed, tmp_path):
    group = {"model": "nano", "backends": ["swapped"], "bits": [8]}
    config = {"stages": ["sweep"], "sweep": {"groups": [group]}, "seeds": [0], "memory_mb": {"swapped": 100}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    assert ": 3 runs" in run(installed, "-m", "private_lora", "validate", "--config", str(tmp_path / "study.yaml"))
    code = (
        "from private_lora.publish.figures.style import BACKEND_COLOURS; from private_lora.specs.backends import BACKENDS;"
        "from private_lora.results.fingerprints import files_behind; from private_lora.specs.run import RunSpec;"
        "fields = {'activation_bits': 8, 'weight_bits': 8};"
        "spec = RunSpec(run_id='a', model='nano', data='math_problems', backend='swapped', **fields);"
        "print(BACKEND_COLOURS['swapped'], list(BACKENDS)[-1], any(path.name == 'backend.py' and 'somebodys' in str(path) "
        "for path in files_behind(spec)))"
    )
    assert run(installed, "-c", code).split() == ["#123456", "swapped", "True"]


def test_a_backend_of_another_package_passes_the_contract(installed):
    said = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract/test_backends.py", "-k", "swapped")
    assert " passed" in said


def test_a_quantizer_is_a_function_and_an_entry(tmp_path, monkeypatch):
    (tmp_path / "halves.py").write_text(QUANTIZER)
    monkeypatch.syspath_prepend(tmp_path)
    entry = 'QuantizerDescriptor("half_of_each_row", "halves:half_of_each_row")'
    print(f"a quantizer: {lines(QUANTIZER, entry)} lines")
    assert lines(QUANTIZER, entry) <= 3
    monkeypatch.setitem(quantizers.ACTIVATION_QUANTIZERS, "half_of_each_row", eval(entry))  # as the file would have it
    assert isinstance(quantizers.ACTIVATION_QUANTIZERS["half_of_each_row"], QuantizerDescriptor)

    from private_lora.training.run import finetune

    fields = {
        "model": "nano",
        "data": "random_tokens",
        "backend": "integer",
        "activation_bits": 8,
        "weight_bits": 8,
        "steps": 1,
    }
    fields |= {"steps": 1, "batch_size": 1, "sequence_length": 8, "train_examples": 2, "eval_examples": 2}
    found = {}
    for name in ("half_of_each_row", "dynamic_per_token"):
        spec = RunSpec(run_id=name, activation_quantizer=name, **fields)
        assert finetune(spec, tmp_path / name / "records.csv", tmp_path / "checkpoints")
        found[name] = losses(tmp_path / name / "records.csv")
    assert len(found["half_of_each_row"]) == len(found["dynamic_per_token"]) > 0
    assert found["half_of_each_row"] != found["dynamic_per_token"]
