"""Flags of commands are the fields of specs."""

import subprocess
import sys

import pytest

from private_lora.bench.loopback import worker_arguments
from private_lora.cli.flags import given_fields
from private_lora.cli.main import build_parser
from private_lora.specs.run import RunSpec
from private_lora.specs.worker import WorkerSpec

VALUES = {
    "run_id": "a",
    "model": "nano",
    "data": "codebase",
    "backend": "packed",
    "data_options": {"chunk_characters": 4},
    "backend_options": {"security": "chaloy21_quantum"},
    "activation_bits": 8,
    "weight_bits": 6,
    "blocks": 1,
    "share_inputs": False,
    "count_padding": True,
    "lora_alpha": 16.5,
    "lora_targets": ["q_proj", "v_proj"],
    "learning_rate": 0.001,
    "lr_schedule": "constant",
}


def test_every_field_of_a_run_has_a_flag_of_its_type():
    words = []
    for name, value in VALUES.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value).replace("'", '"')]
    args = build_parser("finetune").parse_args(["finetune", "--out", "x", *words])
    assert given_fields(args, RunSpec) == VALUES
    assert set(RunSpec.model_fields) <= set(vars(args))


def test_a_worker_is_asked_for_what_its_run_needs():
    run = RunSpec(**VALUES)
    args = build_parser("worker").parse_args(["worker", "--listen", "127.0.0.1:0", *worker_arguments(run, "0")])
    spec = WorkerSpec(**given_fields(args, WorkerSpec))
    assert spec == WorkerSpec(layers="0", **{n: v for n, v in run.to_dict().items() if n in WorkerSpec.model_fields})


@pytest.mark.parametrize("missing", ["--model", "--backend"])
def test_a_worker_needs_a_model_and_a_backend(missing, capsys):
    words = ["worker", "--listen", "127.0.0.1:0", "--model", "nano", "--backend", "packed"]
    where = words.index(missing)
    with pytest.raises(SystemExit):
        build_parser("worker").parse_args(words[:where] + words[where + 2 :])
    assert missing in capsys.readouterr().err


def test_every_field_says_what_it_is():
    for kind in (RunSpec, WorkerSpec):
        assert all(info.description for info in kind.model_fields.values())


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from private_lora.cli.main import build_parser; build_parser().format_help();"
        "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'numba', 'grpc') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
