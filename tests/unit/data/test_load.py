"""Data sources by name: options, splits, and what looking at them imports."""

import subprocess
import sys

import pytest
from jsonl_files import qa, write_jsonl

from private_lora.core.errors import UserError
from private_lora.data.load import load_examples, validate_data


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("poems", {}, "math_problems"),
        ("math_problems", {"level": 3}, "no option 'level'"),
        ("math_problems", [], "must be a mapping"),
        ("jsonl", {}, "path"),
        ("jsonl", {"path": "a", "train_path": "b"}, "path"),
        ("jsonl", {"test_path": "b"}, "train_path"),
        ("jsonl", {"path": "a", "test_path": "b"}, "train_path"),
        ("jsonl", {"train_path": "a", "test_path": "./a"}, "same file"),
        ("jsonl", {"path": 3}, "must be a str"),
        ("jsonl", {"path": ""}, "must be a str"),
        ("jsonl", {"path": "/no/such/file"}, "No such file"),
        ("jsonl", {"path": "/"}, "directory"),
        ("jsonl", {"file": "x"}, "known options: answer_field"),
        ("codebase", {"directory": "/no/such/folder"}, "not a directory"),
        ("codebase", {"chunk_characters": 0}, "at least 1"),
        ("codebase", {"chunk_characters": "short"}, "must be a int"),
        ("hub", {}, "needs the option name"),
        ("hub", {"name": "a/b", "split": "train"}, "no option 'split'"),
        ("hub", {"name": "a/b", "test_split": "train"}, "are the same"),
    ],
)
def test_bad_options_are_one_sentence(name, options, reason):
    with pytest.raises(UserError) as caught:
        validate_data(name, options)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_split_is_a_programming_error():
    with pytest.raises(ValueError, match="split"):
        load_examples("math_problems", {}, "valid", 1, 0)


def test_validation_imports_neither_torch_nor_datasets(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", qa(20))
    code = (
        "import sys; from private_lora.data.load import validate_data; import private_lora.training.metrics\n"
        f"validate_data('jsonl', {{'path': {path!r}}}, 5, 1); validate_data('math_problems', {{}}, 5, 5)\n"
        "validate_data('codebase', {}); validate_data('hub', {'name': 'a/b'})\n"
        "assert not {'torch', 'datasets', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
