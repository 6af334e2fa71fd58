"""Where a number comes from: the sidecar of a run. Imports no torch."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from private_lora.core.cpu_time import CpuMeter
from private_lora.core.files import atomic_path
from private_lora.core.paths import PACKAGE
from private_lora.results.schema import SCHEMA_VERSION
from private_lora.specs.descriptors import packages

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
# Vector and matrix instructions (x86, then ARM) that decide how fast products are.
SPEED_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx_vnni_int8")
SPEED_FLAGS += ("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")
# What a machine's name says of them. Of the widths the first that is there; then every unit: VNNI, DOT and I8MM multiply int8,
# BF16 bfloat16, AMX both. Without such a unit int8 products take more instructions, and bf16 ones are made of float32.
WIDTHS = {"AVX-512": ("avx512f",), "AVX2": ("avx2",), "SVE": ("sve", "sve2"), "NEON": ("asimd",)}
UNITS = {"VNNI": ("avx512_vnni", "avx_vnni"), "DOT": ("asimddp",), "I8MM": ("i8mm",), "BF16": ("avx512_bf16", "bf16")}
UNITS["AMX"] = ("amx_int8", "amx_bf16")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_WAIT_POLICY")
KEY_NOTE = "Seeds steer data, adapters and simulated noise only; secret keys and encryption take the OS's randomness."


class Start:
    """What a run started from: taken first thing, so that a commit made meanwhile is not taken for the one that ran."""

    def __init__(self):
        self._environment = environment()
        self._cpu = CpuMeter()

    def cpu_shares(self) -> dict[str, float]:
        """The shares of the machine's CPU time that others took since: see `CpuMeter.shares`."""
        return self._cpu.shares()

    def environment(self) -> dict:
        """`environment` at the start, with what is known at the end: time, load, threads, CPU time of others."""
        known = {"finished_at": _now(), "load_1min_end": os.getloadavg()[0], "threads": _threads()}
        return self._environment | known | self.cpu_shares()


def environment() -> dict:
    """Commit, command, time, machine, load and versions of this process."""
    return code_state() | {
        "command": _command(),
        "started_at": _now(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_flags": _cpu_flags(),
        "cores": os.cpu_count(),
        "machine": machine(),
        "malloc": os.environ.get("GLIBC_TUNABLES", ""),
        "load_1min": os.getloadavg()[0],
        "versions": {name: _version(name) for name in (*PACKAGES, *packages())},
        "keys": KEY_NOTE,
    }


@functools.cache
def code_state() -> dict:
    """Commit, and whether tracked files differ from it, when this process first asked: it keeps the code it loaded."""
    return {"commit": _git("rev-parse", "HEAD"), "dirty": _dirty()}


def machine(device: str = "cpu") -> str:
    """Processor, cores and instructions, and the GPU where `device` is one: what times are of."""
    name = ", ".join(part for part in (_processor(), f"{os.cpu_count()} cores", instructions(_cpu_flags())) if part)
    if device == "cpu":
        return name
    import torch

    return f"{torch.cuda.get_device_name()} beside {name}"


def instructions(flags: list[str]) -> str:
    """What decides how fast int8 and bf16 products are, in short, such as `AVX-512 VNNI BF16`; empty where nothing is known."""
    width = next((name for name, having in WIDTHS.items() if set(having) & set(flags)), "")
    return " ".join([*([width] if width else []), *(name for name, having in UNITS.items() if set(having) & set(flags))])


def write_sidecar(path: Path, content: dict) -> None:
    """`content` as indented JSON, with the version of the schema, all or nothing."""
    content = {"schema_version": SCHEMA_VERSION} | content
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


def _command() -> str:
    """What was typed, quoted for a shell; `python -m private_lora` for each way to start this program."""
    started = Path(sys.argv[0]).name
    program = ["python", "-m", "private_lora"] if started in ("__main__.py", "private-lora") else [started]
    return shlex.join([*program, *sys.argv[1:]])


def _now() -> str:
    """Date and time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _threads() -> dict:
    """What limits the threads of each library: variables of the environment, and what those in use made of them."""
    known = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    for library in ("torch", "numba"):
        if library in sys.modules:
            known[library] = sys.modules[library].get_num_threads()
    return known


def _processor() -> str:
    """The processor's model name from /proc/cpuinfo, or what platform knows.

    A name without a number, as virtual machines give, stands for several generations: then with family and model.
    """
    name = _cpuinfo("model name") or platform.processor()
    if any(letter.isdigit() for letter in name) or not _cpuinfo("cpu family"):
        return name
    return f"{name} (family {_cpuinfo('cpu family')}, model {_cpuinfo('model')})"


def _cpu_flags() -> list[str]:
    """Those of SPEED_FLAGS that the processor has."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for name in SPEED_FLAGS if name in flags]


def _cpuinfo(key: str) -> str:
    """The value of the first such line of /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")
