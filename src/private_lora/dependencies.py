"""Which modules of this package stand behind a number, read from their imports: what makes the workflow run again."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from private_lora.network.spec import LoopbackSpec
from private_lora.provenance import PACKAGE, code_fingerprint
from private_lora.registry import BACKENDS
from private_lora.spec import BlockSpec, LatencySpec, RunSpec

NAME = PACKAGE.name
# They name things, describe them or record where they come from. Of what they hold only the spec, which is a parameter of
# its own, and a backend's basis, which is part of the fingerprint below, reach a result.
NOT_NUMBERS = frozenset({"registry", "spec", "network.spec", "errors", "provenance"})

# What a run through workers goes through besides: the harness, and what it starts as processes of their own.
THROUGH_WORKERS = ("network.loopback", "network.cli", "network.link")
MEASURED_BY = {LatencySpec: "bench", BlockSpec: "block_bench"}


def fingerprint(spec: RunSpec | LoopbackSpec | LatencySpec | BlockSpec) -> str:
    """Changes when, and only when, code that a run or a measurement of latency goes through changes, comments aside."""
    if isinstance(spec, LoopbackSpec):
        return f"{fingerprint(spec.run_spec)} {_fingerprint(frozenset(THROUGH_WORKERS))}"
    names = [b["name"] for b in spec.backends] if isinstance(spec, BlockSpec) else [spec.backend]
    entries = [BACKENDS[name] for name in names if name in BACKENDS]
    entry_points = [entry.path.split(":")[0].removeprefix(f"{NAME}.") for entry in entries]
    entry_points += ["finetuning", spec.data] if isinstance(spec, RunSpec) else [MEASURED_BY[type(spec)]]
    return " ".join([_fingerprint(frozenset(entry_points)), *(entry.basis for entry in entries)])


@functools.cache
def _fingerprint(entry_points: frozenset[str]) -> str:
    return code_fingerprint([_module_name(path) for path in source_files(entry_points)])


@functools.cache
def source_files(entry_points: frozenset[str]) -> list[Path]:
    """The entry points (modules of this package such as `training` or `tables`) and all that they import, sorted."""
    found: set[Path] = set()
    waiting = set(entry_points)
    while waiting:
        path = _source(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting |= _imports(path) - NOT_NUMBERS
    return sorted(found)


def _source(module: str) -> Path | None:
    """The file of a module or package; None for a name in a module, which an import statement may also give."""
    path = PACKAGE / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@functools.cache
def _imports(path: Path) -> set[str]:
    """Modules of this package, relative to it, that a file imports anywhere in its code, with the packages around them."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {m.removeprefix(f"{NAME}.") for m in modules if m.startswith(f"{NAME}.")}
    return ours | {m.rsplit(".", 1)[0] for m in ours if "." in m}
