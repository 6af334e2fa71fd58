"""Which modules of this package stand behind a number, from the graph of their imports: what makes the workflow run again.

Imports neither torch nor pandas: the workflow asks at every start.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import grimp

from private_lora.core.errors import UserError
from private_lora.core.paths import PACKAGE
from private_lora.specs.backends import BACKENDS
from private_lora.specs.block import BlockSpec
from private_lora.specs.data import DATASETS
from private_lora.specs.descriptors import BackendDescriptor, Published, QuantizerDescriptor
from private_lora.specs.estimate import EstimateSpec
from private_lora.specs.layer import LayerSpec
from private_lora.specs.loopback import GenerationSpec, LoopbackSpec, run_of
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from private_lora.specs.run import RunSpec
from private_lora.specs.split import SplitSpec
from private_lora.specs.worker_view import WorkerViewSpec

NAME = PACKAGE.name
AnySpec = RunSpec | LoopbackSpec | GenerationSpec | EstimateSpec | LayerSpec | BlockSpec | WorkerViewSpec
# They name and describe things, refuse them, or say where numbers come from. What reaches a number of that is part of the
# fingerprint below: a backend's basis, and how a run's quantizers are described. Whoever is told of a run changes none of it.
DESCRIPTIONS = (
    "backends",
    "colours",
    "data",
    "descriptors",
    "models",
    "options",
    "quantizers",
    "sentences",
    "stages",
)
NOT_NUMBERS = frozenset(
    f"{NAME}.{module}"
    for module in (
        *(f"specs.{name}" for name in DESCRIPTIONS),
        "core.errors",
        "core.paths",
        "results.provenance",
        "training.live",
    )
)

# What a run goes through, by its kind; a backend and a data source are imported by name and come on top. A run through workers
# also starts processes.
WORKERS = ("cli.network", "network.tools.link", "network.worker.server")
ENTRY_POINTS = {
    RunSpec: ("training.run",),
    LayerSpec: ("bench.layer",),
    BlockSpec: ("bench.block",),
    LoopbackSpec: ("training.run", "bench.loopback", *WORKERS),
    GenerationSpec: ("bench.generation", *WORKERS),
    EstimateSpec: ("cli.estimate", "cli.estimate_check", "training.run"),
    WorkerViewSpec: ("bench.worker_view",),
}
PUBLISHING = ("publish.tables", "publish.figures", "costs.predict", "results.prepare", "cli.publish")


def fingerprint(spec: AnySpec) -> str:
    """Changes when, and only when, code that a run or a measurement goes through changes, comments aside."""
    run = run_of(spec)
    described = repr(_quantizers(run)) if isinstance(run, SplitSpec) else ""
    return " ".join([_fingerprint(_modules(spec), described), *(entry.basis for entry in _backends(run))])


def files_behind(spec: AnySpec) -> list[Path]:
    """Source files that a run or a measurement goes through."""
    return source_files(_modules(spec), NOT_NUMBERS)


def publishing_files(entries: Iterable[Published]) -> list[Path]:
    """Source files of what makes these tables and figures, and of what collects the records for them."""
    return source_files(frozenset({*PUBLISHING, *(_module(entry.function) for entry in entries)}))


def _modules(spec: AnySpec) -> frozenset[str]:
    """Where the code of a spec begins: its command's, its backends', its data source's, its quantizers'."""
    run = run_of(spec)
    paths = [entry.path for entry in _backends(run)]
    if isinstance(run, SplitSpec):
        paths += [quantizer.ranges for quantizer in _quantizers(run)]
    if isinstance(run, RunSpec | WorkerViewSpec):
        paths.append(DATASETS[run.data].module)
    return frozenset(map(_module, paths)) | set(ENTRY_POINTS[type(spec)])


def _module(path: str) -> str:
    """The module of `module:attribute`, or a module; of this package, by its path within."""
    return path.split(":")[0].removeprefix(f"{NAME}.")


def _backends(run: SplitSpec | LayerSpec | BlockSpec) -> list[BackendDescriptor]:
    names = [backend["name"] for backend in run.backends] if isinstance(run, BlockSpec) else [run.backend]
    return [BACKENDS[name] for name in names if name in BACKENDS]


def _quantizers(run: SplitSpec) -> tuple[QuantizerDescriptor, QuantizerDescriptor]:
    return ACTIVATION_QUANTIZERS[run.activation_quantizer], WEIGHT_QUANTIZERS[run.weight_quantizer]


@functools.cache
def _fingerprint(entry_points: frozenset[str], described: str) -> str:
    return code_fingerprint(source_files(entry_points, NOT_NUMBERS), described)


@functools.cache
def source_files(entry_points: frozenset[str], left_out: frozenset[str] = frozenset()) -> list[Path]:
    """Files of the entry points and of all that they import, from this package and from those that entry points are of.

    Entry points: modules of this package such as `training.run`, whole rooms, or `package.module` of another package. A
    module's packages are imported with it. What is imported for type checking alone does not count. Of a module that is a
    single file in no package, the file counts alone. Raises UserError when a module of another package is not there.
    """
    ours = _import_graph(frozenset()).modules
    named = {f"{NAME}.{name}" if f"{NAME}.{name}" in ours else name for name in entry_points}
    graph = _import_graph(frozenset(filter(_is_package, (name.partition(".")[0] for name in named))) - {NAME})
    files = {name for name in named - graph.modules if "." not in name and find_spec(name)}
    if missing := sorted(named - graph.modules - files):
        raise UserError(f"a package that is installed says that its code is in {missing[0]}, and there is no such module")
    waiting, found = set().union(named - files, *(graph.find_descendants(name) for name in named - files)), set()
    while waiting:
        module = waiting.pop()
        if module not in found and module not in left_out:
            found.add(module)
            waiting |= graph.find_modules_directly_imported_by(module) | {module.rpartition(".")[0]} - {""}
    return sorted(map(_source, found | files))


@functools.cache
def _import_graph(others: frozenset[str]) -> grimp.ImportGraph:
    """Imports within this package and other ones, and between them."""
    return grimp.build_graph(NAME, *sorted(others), exclude_type_checking_imports=True, cache_dir=None)


def _is_package(name: str) -> bool:
    """Whether this is a directory of modules, and not a module that is a single file, or nothing."""
    found = find_spec(name)
    return found is not None and found.submodule_search_locations is not None


def _source(module: str) -> Path:
    top, _, rest = module.partition(".")
    root = PACKAGE / "__init__.py" if top == NAME else Path(find_spec(top).origin)
    path = root.parent / rest.replace(".", "/") if rest else root
    if path.is_dir():
        return path / "__init__.py"
    return path if path.suffix == ".py" else path.with_suffix(".py")


def code_fingerprint(files: list[Path], described: str = "") -> str:
    """16 hex digits of a SHA-256 over source files, blind to comments, docstrings and layout, and over a description.

    The workflow passes it to rules as a parameter, so that runs are repeated when the code that computes them changes, and not
    when a sentence does.
    """
    digest = hashlib.sha256(described.encode())
    for path in sorted(files):
        digest.update(_canonical(path).encode())
    return digest.hexdigest()[:16]


@functools.cache
def _canonical(path: Path) -> str:
    """The module's syntax tree as text, without docstrings, those of a class's fields included."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
