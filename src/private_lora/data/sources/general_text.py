"""General text that is nobody's own: prose of Python's standard library, about what everybody may know.

"test", to measure what fine-tuning made a model forget, is docstrings of some packages; "train", to rehearse while something
else is learned, is those of all others and the language reference (`pydoc_data.topics`). Both change with the Python version.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from private_lora.data.examples import Example, check_options
from private_lora.data.sources.codebase import chunks

TEST_PACKAGES = {"concurrent", "email", "importlib", "json", "logging", "multiprocessing", "unittest", "urllib", "xml"}
NO_PROSE = {"test", "tests", "idlelib", "lib2to3", "site-packages", "pydoc_data"}
SHORTEST, PIECE = 200, 300  # characters


def _docstrings(split: str) -> Iterator[str]:
    """Docstrings in packages of the standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library).parts
        if NO_PROSE & set(inside) or (inside[0] in TEST_PACKAGES) != (split == "test"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                yield inspect.cleandoc(ast.get_docstring(node) or "")


def _reference() -> Iterator[str]:
    """Topics of the language reference."""
    from pydoc_data.topics import topics

    return (topics[name].strip() for name in sorted(topics))


def validate(options: dict) -> None:
    """Nothing, or UserError: it takes no options."""
    check_options("general_text", options)


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """All pieces of a split, in an order drawn from the seed."""
    check_options("general_text", options)
    texts = itertools.chain(_docstrings(split), () if split == "test" else _reference())
    pieces = list(dict.fromkeys(piece for text in texts for piece in chunks(text, PIECE) if len(piece) >= SHORTEST))
    return (Example("", pieces[i]) for i in np.random.default_rng([seed, split == "test"]).permutation(len(pieces)))
