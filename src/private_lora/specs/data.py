"""Data sources, each said once: where its code is and which options it takes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataDescriptor:
    """What may be said about a data source without importing it.

    module: has `validate(options)` and `examples(options, split, seed)`. text: what it gives. options: their types by name.
    has_answers: whether its examples may have an answer to compare with. is_local: they can be counted before any job.
    """

    name: str
    module: str
    text: str
    options: dict[str, type] = field(default_factory=dict)
    has_answers: bool = True
    is_local: bool = True


_FIELDS = {"prompt_field": str, "completion_field": str, "answer_field": str}
_SOURCES = "private_lora.data.sources"

DATASETS = {
    descriptor.name: descriptor
    for descriptor in (
        DataDescriptor("math_problems", f"{_SOURCES}.math_problems", "generated math word problems with worked answers"),
        DataDescriptor(
            "codebase",
            f"{_SOURCES}.codebase",
            "source files in chunks",
            {"directory": str, "chunk_characters": int},
            has_answers=False,
        ),
        DataDescriptor(
            "jsonl",
            f"{_SOURCES}.jsonl",
            "records of JSONL files",
            {"path": str, "train_path": str, "test_path": str} | _FIELDS,
        ),
        DataDescriptor(
            "hub",
            f"{_SOURCES}.hub",
            "records of a data set on the Hugging Face hub",
            {"name": str, "config": str, "revision": str, "train_split": str, "test_split": str} | _FIELDS,
            is_local=False,
        ),
        DataDescriptor(
            "random_tokens",
            f"{_SOURCES}.random_tokens",
            "rows of random tokens, to measure cost alone",
            has_answers=False,
            is_local=False,
        ),
    )
}
