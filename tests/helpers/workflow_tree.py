"""A copy of the repository whose commands write empty files at once, so that Snakemake's decisions can be watched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]

# Stands in for `python -m private_lora` in the copy: every output of every command, with nothing in it.
STAND_IN = """
import sys
from pathlib import Path

arguments = dict(zip(sys.argv[2:], sys.argv[3:]))
made = [Path(arguments[flag]) for flag in ("--out", "--values", "--curves") if flag in arguments]
beside = {name: ["sidecar.json", "adapter/x"] for name in ("finetune", "loopback")}
beside |= {name: ["sidecar.json"] for name in ("layer", "block")}
beside = beside.get(sys.argv[1], [])
made += [made[0].parent / name for name in beside]
suffixes = {"table": [".md", ".tex", ".html"], "figure": [".pdf", ".csv"]}.get(sys.argv[1], [])
made += [made[0].with_suffix(suffix) for suffix in suffixes]
for path in made:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
"""

STUDY = {
    "beside": [],
    "seeds": [0],
    "sweep": {"groups": [{"model": "nano", "backends": ["float", "integer"], "bits": [8]}]},
    "quantizers": [{"activations": "dynamic_per_token", "weights": "static_per_channel"}],
    "codebase": {"groups": []},
    "inflation": {"groups": []},
    "encrypted": {"groups": []},
    "packed": {"groups": []},
    "full_size": {"groups": []},
    "loopback": {
        "arrangements": [{"name": "in process", "workers": []}, {"name": "1 worker", "workers": [""]}],
        "groups": [{"model": "nano", "backends": ["packed"], "bits": [8]}],
    },
    "layer": {"groups": [{"backends": ["integer"], "shapes": [{"rows": 1, "inputs": 4, "outputs": 4}]}]},
    "block": {"groups": [{"tokens": [4], "layers": ["k"], "backends": ["plaintext_float32", "integer"]}]},
    "publish": {"tables": ["runs", "claims"], "figures": ["loss_curves", "layer_latency"]},
}


class Tree:
    """A working directory with the workflow in it."""

    def __init__(self, root: Path):
        self.root = root

    def configure(self, name: str, config: dict) -> str:
        """Write a configuration; its path relative to the tree."""
        (self.root / name).write_text(yaml.safe_dump(config))
        return name

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake here, on the package of this tree; standard error is joined to standard output."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        environment = os.environ | {"PYTHONPATH": str(self.root / "src")}
        return subprocess.run(
            command, cwd=self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )

    def jobs(self, config: str) -> dict[str, int]:
        """Number of jobs of each rule that a configuration would run now."""
        result = self.snakemake("--dry-run", "--quiet", "rules", "--configfile", config)
        assert result.returncode == 0, result.stdout
        return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", result.stdout, re.M)}

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of all results."""
        found = (self.root / "results").rglob("*")
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in found if p.is_file()}


def copy_tree(root: Path) -> Tree:
    """The workflow and the package, copied; the models linked, because nothing here changes them."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("config", "workflow", "profiles", "src"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy2(ROOT / "Snakefile", root)
    (root / "resources").symlink_to(ROOT / "resources")
    (root / "results").mkdir()
    (root / "results/recorded").symlink_to(ROOT / "results/recorded")
    return Tree(root)
