"""Numbers in the prose of a page or template: what a reader takes for a result, and nothing keeps current."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import NamedTuple

# What is no prose, in this order: comments, what a template fills in, code, where links lead, tags.
_NO_PROSE = (
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL),
    re.compile(r"^([ ]*)```.*?^\1```[ ]*$", re.MULTILINE | re.DOTALL),
    re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL),
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"</?[a-zA-Z][^<>]*>"),
    re.compile(r"^[ ]*\d+\.[ ]", re.MULTILINE),  # of a numbered list
)

# Names and definitions that have digits. Nothing that was measured.
_NAMES = (
    # Models, by what their makers call them.
    r"(Llama|SmolLM|GPT|Qwen)-?\d+(\.\d+)?(-\d+(\.\d+)?[MB])?\b",
    r"\b[18]B\b|\b70B\b",
    # Formats of numbers.
    r"\b([Ff]loat|[Ii]nt|uint|bf|bfloat)-?\d+\b|\bfp\d+\b|\bFP32\b|\bT4\b|\bQ4_1\b|\bM4\b|\b\d+-bit\b",
    # Software, standards, papers.
    r"Python 3\.11\b|Apache-2\.0|arXiv \d{4}\.\d{5}|\bSHA-\d+|\bAES-256\b|\bTLS 1\.\d\b|\bChaCha20\b|\bgRPC\d*\b|\bHTTP/2\b",
    r"\bGSM8K\b|\bAVX-?512\b|\bAVX2\b|\bX25519\b",
    # Mathematics.
    r"\blog2\b|\b2\^(\w+|-\d+)|\b10\^\d+",
)
_NAME = re.compile("|".join(_NAMES))
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")


class Found(NamedTuple):
    """A number in prose, with its line in the file."""

    line: int
    number: str

    def where(self, path: PurePath) -> str:
        """A sentence's beginning."""
        return f"{path}, line {self.line}: {self.number}"


def numbers_in(text: str) -> list[Found]:
    """All numbers in the prose of Markdown, or of a template of Markdown, but for names."""
    for pattern in (*_NO_PROSE, _NAME):
        text = pattern.sub(_blank, text)
    return [Found(text.count("\n", 0, match.start()) + 1, match[0]) for match in _NUMBER.finditer(text)]


def has_number(text: str) -> bool:
    """Whether there is a number that is no part of a name."""
    return bool(numbers_in(text))


def _blank(match: re.Match) -> str:
    """As many lines, and nothing else."""
    return " " + "\n" * match[0].count("\n")
