"""Where a number comes from: the sidecar of a run, and the fingerprint of the code that computed it. Imports no torch."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from private_lora.core.files import atomic_path
from private_lora.core.paths import PACKAGE

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
