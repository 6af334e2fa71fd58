"""Every test that docs/security.md names as the evidence of a claim is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "templates" / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ADVERSARIES = ("curious worker", "lying worker", "network", "other client", "other user", "colluding workers")


def named():
    """Files and functions, each once."""
    return sorted(set(NAMED.findall(PAGE.read_text())))


@pytest.mark.parametrize(("path", "name"), named(), ids=lambda value: value)
def test_a_test_that_is_named_as_evidence_is_there(path, name):
    functions = [node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)]
    assert name in functions


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_every_adversary_has_evidence_or_says_that_there_is_none(adversary):
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {adversary}")]
    assert rows
    for row in rows:
        *_, protection, evidence, _ = (cell.strip() for cell in row.split("|"))
        assert protection and (NAMED.search(evidence) or evidence == "none")
