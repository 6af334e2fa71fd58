"""Specs: refused in one sentence, canonical, and light to import."""

import json
import subprocess
import sys

import pytest

from private_lora.core.errors import UserError
from private_lora.specs.loopback import LoopbackSpec
from private_lora.specs.run import RunSpec

RUN = {"run_id": "a", "model": "nano", "data": "math_problems", "backend": "integer", "activation_bits": 8, "weight_bits": 8}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": "ten"}, "steps must be a whole number, not 'ten'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"steps": True}, "steps must be a whole number, not True"),
        ({"weight_bits": 17}, "weight_bits must be at most 16, not 17"),
        ({"weight_bits": None}, "weight_bits must be a whole number from 2 to 16, not None"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number, not inf"),
        ({"learning_rate": "2e-3"}, "(that is text: a number has no quotes in YAML, and a dot before its e)"),
        ({"stepz": 1}, "unknown key 'stepz', did you mean 'steps'?"),
        ({"backend": "pakced"}, "unknown backend 'pakced': known are float"),
        ({"backend": "float"}, "backend 'float' does not quantize: leave out activation_bits and weight_bits"),
        ({"device": "cuda"}, "unknown device for backend integer 'cuda': known are cpu"),
        ({"constant_rows": "none"}, "constant_rows must be one of exact, reference, not 'none'"),
    ],
)
def test_a_value_that_cannot_be_run_is_one_sentence(change, sentence):
    for make in (lambda values: RunSpec(**values), RunSpec.from_dict, lambda values: RunSpec.from_json(json.dumps(values))):
        with pytest.raises(UserError) as error:
            make(RUN | change)
        assert sentence in str(error.value)
        assert "\n" not in str(error.value)


def as_run(data: str, **options) -> tuple[str, dict]:
    run = RunSpec(**RUN | {"data": data, "data_options": options})
    assert RunSpec.from_json(run.to_json()) == run
    return run.data, run.data_options


def test_a_path_is_the_source_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "code.d").mkdir()
    for path in ("my.jsonl", "./my.jsonl", "texts/questions"):
        name = path.removeprefix("./")
        assert as_run(path) == ("jsonl", {"path": name})
        assert as_run(path, prompt_field="q") == ("jsonl", {"path": name, "prompt_field": "q"})
        assert as_run(path, test_path="b") == ("jsonl", {"train_path": name, "test_path": "b"})
    assert as_run(str(tmp_path / "code.d")) == as_run("~/code.d") == ("private_code", {"directory": str(tmp_path / "code.d")})
    assert as_run("./none/", chunk_characters=9) == ("private_code", {"directory": "none", "chunk_characters": 9})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": "my.jsonl", "data_options": {"path": "b"}}, "data is the path my.jsonl already: leave 'path' out"),
        ({"data": "./code/", "data_options": {"packages": ["peft"]}}, "leave 'packages' out of data_options"),
        ({"data": "poems"}, "unknown dataset 'poems': known are math_problems"),
        ({"data": "poems"}, "a path has a slash or a dot, as ./poems"),
        ({"data": "./code/", "generate_examples": 1}, "private_code has no problems to answer"),
        ({"data": "./my.jsonl", "data_options": []}, "data_options must be a mapping"),
        ({"data": 3}, "data must be text, not 3"),
    ],
)
def test_a_path_that_cannot_be_read_so_is_refused(change, sentence):
    with pytest.raises(UserError) as error:
        RunSpec(**RUN | change)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_missing_key_is_named():
    with pytest.raises(UserError, match="key 'model' is missing"):
        RunSpec.from_dict({key: value for key, value in RUN.items() if key != "model"})


def test_numbers_stay_what_was_given():
    whole, broken = (RunSpec(**RUN | {"lora_alpha": alpha}) for alpha in (16, 16.0))
    assert '"lora_alpha":16,' in whole.to_json() and '"lora_alpha":16.0,' in broken.to_json()


def test_the_run_inside_a_spec_is_checked_with_its_path():
    assert LoopbackSpec(run_id="b", run=RUN | {"run_id": "b"}).run == RunSpec(**RUN | {"run_id": "b"})
    with pytest.raises(UserError, match=r"^run\.steps must be at least 1, not 0$"):
        LoopbackSpec(run_id="b", run=RUN | {"steps": 0})


def test_specs_import_nothing_heavy():
    code = (
        "import sys, pkgutil, private_lora.specs as specs; from importlib import import_module;"
        "[import_module(f'private_lora.specs.{m.name}') for m in pkgutil.iter_modules(specs.__path__)];"
        "print([m for m in ('torch', 'numpy', 'pandas', 'transformers', 'matplotlib', 'yaml') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
