"""Where a number comes from: the sidecar of a run, and the fingerprint of the code that computed it. Imports no torch."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

from private_lora.records import atomic_path

PACKAGE = Path(__file__).parent
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "concrete-ml",
    "concrete-ml-extensions",
    "numba",
    "datasets",
)
KEY_NOTE = "Seeds steer data, adapters and simulated noise only; secret keys and encryption take the OS's randomness."


def code_fingerprint(modules: list[str]) -> str:
    """16 hex digits of a SHA-256 over modules of this package, blind to comments, docstrings and layout.

    modules: names relative to the package, such as `training` or `backends.glwe`. The workflow passes it to rules as a
    parameter, so that runs are repeated when the code that computes them changes, and not when a sentence does.
    """
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(_canonical(PACKAGE / (module.replace(".", "/") + ".py")).encode())
    return digest.hexdigest()[:16]


@functools.cache
def _canonical(path: Path) -> str:
    """The module's syntax tree as text, without docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def environment() -> dict:
    """Commit, command, machine, threads, load and versions of this process."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": _dirty(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "malloc": os.environ.get("GLIBC_TUNABLES", ""),
        "load_1min": os.getloadavg()[0],
        "versions": {name: _version(name) for name in PACKAGES},
        "keys": KEY_NOTE,
    }


def machine(device: str = "cpu") -> str:
    """Processor and cores, and the GPU where `device` is one: what times are of."""
    name = f"{_processor()}, {os.cpu_count()} cores"
    if device == "cpu":
        return name
    import torch

    return f"{torch.cuda.get_device_name()} beside {name}"


def write_sidecar(path: Path, content: dict) -> None:
    """`content` as indented JSON, all or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, in bytes (Linux reports KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def _dirty() -> bool | None:
    """Whether tracked files differ from the commit; None outside a checkout."""
    if not _git("rev-parse", "HEAD"):
        return None
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """The processor's model name from /proc/cpuinfo, or what platform knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
