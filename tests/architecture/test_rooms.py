"""The package holds rooms and no circle; what is imported by name keeps to the direction that import-linter holds elsewhere."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import grimp
import pytest

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.specs.backends import BACKENDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/private_lora"
SOURCES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LINES = next(c["layers"] for c in CONTRACTS if c["name"] == "Rooms import downwards only")
# 0 is the lowest line, that of `core`.
HEIGHT = {room: height for height, line in enumerate(reversed(LINES)) for room in line.split(" | ")}
# Rooms in which a module is looked up by a name that a study gives; `core` has the two functions that do it.
LOOKING_UP = {"backends", "data", "split", "training", "publish", "core"}
LOADERS = {"load_object", "import_module", "__import__"}


def test_the_root_holds_rooms_and_two_modules():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(HEIGHT)


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Modules that all import each other, directly or not, circle by circle."""
    below = {module: graph.find_upstream_modules(module) for module in graph.modules}
    found = {frozenset({m} | {n for n in below[m] if m in below[n]}) for m in graph.modules}
    return sorted(sorted(modules) for modules in found if len(modules) > 1)


def test_no_module_imports_itself_through_others():
    assert circles(grimp.build_graph("private_lora", exclude_type_checking_imports=False, cache_dir=None)) == []


def test_a_circle_would_be_found():
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("c", "e")):
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["a", "b", "c"]]


def named_rooms(path: Path) -> set[str]:
    """Rooms of which a module's strings, docstrings apart, name a module: `private_lora.room...`."""
    strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    names = [re.match(r"private_lora\.(\w+)[\w.:]*$", text) for text in strings if isinstance(text, str)]
    return {match[1] for match in names if match} & set(HEIGHT)


def looked_up(path: Path) -> bool:
    """Whether a module imports something whose name is computed."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args]
    by_name = [c for c in calls if getattr(c.func, "id", getattr(c.func, "attr", "")) in LOADERS]
    return any(not isinstance(call.args[0], ast.Constant) for call in by_name)


@pytest.mark.parametrize("module", [m for m in SOURCES if m.split(".")[0] in HEIGHT.keys() - {"specs"}])
def test_no_string_names_a_module_of_a_higher_room(module):
    """Only `specs` may, which names things and imports none of them."""
    height = HEIGHT[module.split(".")[0]]
    assert {room for room in named_rooms(SOURCES[module]) if HEIGHT[room] > height} == set()


def test_what_specs_name_is_looked_up_in_its_own_room():
    """So a name leads nowhere that an import may not: each of these rooms loads modules of its own alone."""
    named = set().union(*(named_rooms(path) for module, path in SOURCES.items() if module.split(".")[0] == "specs"))
    assert {"backends", "data"} <= named <= LOOKING_UP
    assert not [module for module, path in SOURCES.items() if module.startswith("specs.") and looked_up(path)]
    # `cli`, above all, imports ahead what its jobs need.
    assert {module.split(".")[0] for module, path in SOURCES.items() if looked_up(path)} <= LOOKING_UP | {"cli"}


@pytest.mark.parametrize("name", BACKENDS)
def test_backends_load_their_own_and_leave_trainers_to_training(name):
    room = BACKENDS[name].path.split(".")[1]
    assert room == {"matmul": "backends", "trainer": "training"}[BACKENDS[name].kind]
    if room == "backends":
        assert type(load(name)).__module__.startswith("private_lora.backends.")
        return
    with pytest.raises(UserError, match="trains by itself"):
        load(name)
