"""Data sources, each said once: where its code is and which options it takes."""

from __future__ import annotations

from private_lora.specs.descriptors import DataDescriptor, by_name

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
    ),
    "private_lora.data",
)
