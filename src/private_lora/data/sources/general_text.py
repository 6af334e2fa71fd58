"""General text, to measure what fine-tuning made a model forget: descriptions in Python's own standard library.

Docstrings of its packages, as prose about what everybody may know; no private text. They change with the Python version.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from private_lora.data.examples import Example, check_options, held_out
from private_lora.data.sources.codebase import chunks

PACKAGES = ("concurrent", "email", "importlib", "json", "logging", "multiprocessing", "unittest", "urllib", "xml")
SHORTEST, PIECE = 200, 300  # characters


def _docstrings(path: Path) -> Iterator[str]:
    """Long docstrings of one source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = inspect.cleandoc(ast.get_docstring(node) or "")
            if len(text) >= SHORTEST:
                yield text


def validate(options: dict) -> None:
    """Nothing, or UserError: it takes no options."""
    check_options("general_text", options)


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """All pieces of a split, in an order drawn from the seed; a tenth of them are the test side."""
    check_options("general_text", options)
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for package in PACKAGES for path in (library / package).rglob("*.py") if "test" not in path.parts)
    texts = dict.fromkeys(text for path in paths for text in _docstrings(path))
    pieces = list(dict.fromkeys(piece for text in texts for piece in chunks(text, PIECE) if len(piece) >= SHORTEST))
    test_side = held_out(pieces)
    pieces = [piece for piece in pieces if (piece in test_side) == (split == "test")]
    return (Example("", pieces[i]) for i in np.random.default_rng([seed, split == "test"]).permutation(len(pieces)))
