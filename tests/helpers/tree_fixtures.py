"""Copies of the repository for the tests of the workflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workflow_tree import STAND_IN, STUDY, Tree, copy_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Tree:
    """A copy without results, for tests that run nothing."""
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Tree:
    """A copy in which a small study is done, as Snakemake sees it. Do not change it: see `done`."""
    tree = copy_tree(tmp_path_factory.mktemp("finished"))
    (tree.root / "src/private_lora/__main__.py").write_text(STAND_IN)
    result = tree.snakemake("--configfile", tree.configure("study.yaml", STUDY))
    assert result.returncode == 0, result.stdout
    return tree


@pytest.fixture
def done(finished: Tree, tmp_path: Path) -> Tree:
    """A finished study of one's own to change."""
    shutil.copytree(finished.root, tmp_path / "tree", symlinks=True)
    return Tree(tmp_path / "tree")
