"""Block measurements where something is missing: no GPU, or none of the packages that they have no use for."""

import json
import os
import subprocess
import sys

import pytest
import torch

from private_lora.cli.main import main
from private_lora.specs.backends import BACKENDS, PLAINTEXT

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]
NOT_THERE = ("snakemake", "datasets", "concrete", "transformers", "peft", "jsonschema", "yaml")


def spec(names, **fields) -> str:
    values = {"run_id": "tiny", "model": "m", "blocks": 1, "tokens": 2, "layers": {"k": [24, 3]}, "repeats": 1, "warmup": 0}
    values |= {"activation_bits": 7, "weight_bits": 7, "backends": [{"name": name} for name in names]}
    return json.dumps(values | fields)


def in_its_own_process(code: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", [*PLAINTEXT, *MATMUL])
def test_without_a_gpu_a_cuda_job_is_one_sentence_and_no_file(name, tmp_path, capsys):
    out = tmp_path / "made" / "records.csv"
    assert main(["block", "--spec", spec([name], device="cuda"), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("private-lora block: ") and "cuda" in line
    assert not captured.out
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_command_itself_says_one_sentence(tmp_path):
    arguments = ["block", "--spec", spec(["packed"], device="cuda"), "--out", str(tmp_path / "records.csv")]
    result = in_its_own_process("import sys; from private_lora.cli.main import main; sys.exit(main(sys.argv[1:]))", *arguments)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert "tiny" in line and "no usable CUDA GPU" in line
    assert not result.stdout and not list(tmp_path.iterdir())


def test_a_block_measurement_needs_none_of_the_packages_of_the_workflow_and_of_training(tmp_path):
    """As on a machine that has torch, numba and little else."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_THERE!r}))\n"  # importing any of them raises ImportError
        "from private_lora.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    names = [*PLAINTEXT, "packed", "packed_approx"]
    result = in_its_own_process(code, "block", "--spec", spec(names), "--out", str(tmp_path / "records.csv"))
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"records.csv", "sidecar.json"}
