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

# Stands in for `python -m private_lora` in the copy: every output of every command, with nothing in it. The runs of a job that
# are done, by spec and code, are left as they are, and those that are not get a line in a log.
STAND_IN = """
import json
import sys
from pathlib import Path

command, arguments, flag = sys.argv[1], {}, None
for part in sys.argv[2:]:
    flag = part if part.startswith("--") else flag
    arguments.setdefault(flag, []).extend([] if part == flag else [part])
made = [Path(path) for path in arguments["--out"]]
if command == "publish":
    out = made.pop()
    kinds = ("convergence", "loopback", "generation", "estimate", "layer", "block", "worker_view")
    published = [f"published_{name}" for name in ("values", "curves", "literature")]
    made = [out / "data" / f"{kind}.csv" for kind in (*kinds, *published, "costs", "commits")]
    made += [out / "data/beside" / f"{kind}.csv" for kind in kinds if arguments[f"--{kind}-beside"]]
    made += [out / "tables" / f"{name}.{end}" for name in arguments["--tables"] for end in ("csv", "md", "tex", "html")]
    made += [out / "figures" / f"{name}.{end}" for name in arguments["--figures"] for end in ("png", "pdf", "csv")]
if "--runs" in arguments:
    from private_lora.specs.block import BlockSpec
    from private_lora.specs.estimate import EstimateSpec
    from private_lora.specs.layer import LayerSpec
    from private_lora.specs.loopback import GenerationSpec, LoopbackSpec
    from private_lora.specs.run import RunSpec
    from private_lora.specs.worker_view import WorkerViewSpec
    from private_lora.study.done import is_done, mark_done, origin

    kinds = {"finetune": RunSpec, "loopback": LoopbackSpec, "generation": GenerationSpec, "estimate": EstimateSpec}
    kind = (kinds | {"layer": LayerSpec, "block": BlockSpec, "worker_view": WorkerViewSpec})[command]
    for spec in map(kind.from_json, arguments["--spec"]):
        records = Path(arguments["--runs"][0]) / spec.run_id / "records.csv"
        if is_done(origin(spec, records.parents[1]), records):
            continue
        records.parent.mkdir(parents=True, exist_ok=True)
        records.touch()
        (records.parent / "sidecar.json").write_text("{}")
        mark_done(origin(spec, records.parents[1]), records)
        with open("runs.log", "a") as log:
            print(spec.run_id, file=log)
for path in made:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
"""

STUDY = {
    "beside": [],
    "seeds": [0],
    "sweep": {"groups": [{"model": "nano", "backends": ["float", "integer"], "bits": [8]}]},
    "quantizers": [{"activations": "dynamic_per_token", "weights": "static_per_channel"}],
    "knowledge": {"groups": []},
    "overflow": {"groups": []},
    "codebase": {"groups": []},
    "inflation": {"groups": []},
    "encrypted": {"groups": []},
    "packed": {"groups": []},
    "full_size": {"groups": []},
    "generation": {"groups": []},
    "estimate": {"groups": []},
    "loopback": {
        "arrangements": [{"name": "in process", "workers": []}, {"name": "1 worker", "workers": [""]}],
        "groups": [{"model": "nano", "backends": ["packed"], "bits": [8]}],
    },
    "layer": {"groups": [{"backends": ["integer"], "shapes": [{"rows": 1, "inputs": 4, "outputs": 4}]}]},
    "block": {"groups": [{"tokens": [4], "layers": ["k"], "backends": ["plaintext_float32", "integer"]}]},
    "worker_view": {"groups": []},
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

    def run_again(self, config: str) -> list[str]:
        """Ids of the runs that a configuration computes now; what is done before is not among them."""
        log = self.root / "runs.log"
        log.unlink(missing_ok=True)
        result = self.snakemake("--configfile", config)
        assert result.returncode == 0, result.stdout
        return sorted(log.read_text().split()) if log.exists() else []

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
