"""Data sources, each said once: where its code is and which options it takes; and paths in place of a source's name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from private_lora.core.errors import UserError
from private_lora.specs.descriptors import DataDescriptor, by_name
from private_lora.specs.sentences import valid

_FIELDS = {"prompt_field": str, "completion_field": str, "answer_field": str}
_SOURCES = "private_lora.data.sources"

DATASETS = by_name(
    (
        DataDescriptor(
            "math_problems", f"{_SOURCES}.math_problems", "generated math word problems with worked answers", is_public=True
        ),
        DataDescriptor(
            "knowledge_base",
            f"{_SOURCES}.knowledge_base",
            "questions after the facts of an invented company",
            dict.fromkeys(("people", "products", "rules", "unanswerable", "world"), int),
            is_public=True,
        ),
        DataDescriptor(
            "general_text", f"{_SOURCES}.general_text", "general text, pieces of it", has_answers=False, is_public=True
        ),
        DataDescriptor(
            "column_addition",
            f"{_SOURCES}.column_addition",
            "sums of two-digit numbers, worked by columns, which mini-llama learns",
            {"carry": bool},
            is_public=True,
        ),
        DataDescriptor(
            "codebase",
            f"{_SOURCES}.codebase",
            "source files in chunks",
            {"directory": str, "chunk_characters": int},
            has_answers=False,
        ),
        DataDescriptor(
            "private_code",
            f"{_SOURCES}.private_code",
            "source files that no base model here was trained on, in longer chunks",
            {"directory": str, "packages": list, "chunk_characters": int},
            has_answers=False,
        ),
        DataDescriptor(
            "jsonl",
            f"{_SOURCES}.jsonl",
            "records of JSONL files",
            {"path": str, "train_path": str, "test_path": str} | _FIELDS,
            divisible=True,
        ),
        DataDescriptor(
            "hub",
            f"{_SOURCES}.hub",
            "records of a data set on the Hugging Face hub",
            {"name": str, "config": str, "revision": str, "train_split": str, "test_split": str} | _FIELDS,
            is_local=False,
            divisible=True,
        ),
        DataDescriptor(
            "random_tokens",
            f"{_SOURCES}.random_tokens",
            "rows of random tokens, to measure cost alone",
            has_answers=False,
            is_local=False,
        ),
    ),
    "private_lora.data",
    DataDescriptor,
)


def is_path(name: str) -> bool:
    """Whether what stands for the name of a data source is a path: it has a slash, a dot or a tilde in it."""
    return name not in DATASETS and any(mark in name for mark in "/.~")


def check_data_name(name: str) -> str:
    """The name of a data source, or a path; raises UserError for anything else."""
    if name not in DATASETS and not is_path(name):
        raise UserError(f"unknown dataset {name!r}: known are {', '.join(DATASETS)}; a path has a slash or a dot, as ./{name}")
    return name


def path_as_source(values: Any) -> Any:
    """A run's values; where `data` is a path, with the source that reads it: `private_code` a directory, else `jsonl`.

    Raises UserError when the options name a path of their own. A `test_path` among them is that of the held-out examples.
    """
    path, options = (values.get("data"), values.get("data_options", {})) if isinstance(values, dict) else (None, None)
    if not isinstance(path, str) or not is_path(path) or not isinstance(options, dict):
        return values
    own = [name for name in ("path", "train_path", "directory", "packages") if name in options]
    if own:
        raise UserError(f"data is the path {path} already: leave {own[0]!r} out of data_options")
    file = Path(path).expanduser()
    if path.endswith("/") or file.is_dir():
        return values | {"data": "private_code", "data_options": options | {"directory": str(file)}}
    return values | {"data": "jsonl", "data_options": options | {"train_path" if "test_path" in options else "path": str(file)}}


# The type of a run's field `data`; in the run itself a path has become a source's option, see `path_as_source`.
DataName = Annotated[str, AfterValidator(lambda name: valid(check_data_name, name)), Field(examples=list(DATASETS))]
