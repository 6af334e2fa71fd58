"""Writes the known answers of the tree it runs in. It was run at commit b24a8b2, before the package was taken apart into rooms:

    PYTHONPATH=src OMP_NUM_THREADS=1 python tests/known_answers/generate.py

Run it again only where an answer is meant to change, and say why in the commit. Since then, `failure_log2` in plans of `packed`
was corrected by up to a quarter of a bit (the mean over a body's rounding errors is an upper bound now), and with it the
digests of these plans in handshakes; nothing else changed.

Plans, handshakes and messages of `packed` were written again when failures became rarer (2^-80, by a bound), security was
stated by cost models, and errors were sampled in a fixed number of steps; with them the runs of `packed*`, which name the
processor that wrote them. Runs of `integer` and `float` are those of b24a8b2.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import answers
import names
import yaml

HERE = answers.HERE


def main() -> None:
    """Write every file."""
    write_studies()
    for name in ("plans", "quantized", "weights", "wire", "checks", "handshakes"):
        write_json(f"{name}.json", getattr(answers, name)())
    for name, stem in answers.KEPT.items():
        _, _, asked, answered, _ = answers.exchange(name)
        for kind, data in (("question", asked), ("answer", answered)):
            (HERE / f"{stem}_{kind}.bin").write_bytes(data)
    with tempfile.TemporaryDirectory() as directory:
        write_training(Path(directory))


def write_json(name: str, content) -> None:
    """One entry a line, so that a difference can be read."""
    (HERE / name).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_gzip(name: str, data: bytes) -> None:
    """Compressed, without a date."""
    (HERE / name).write_bytes(gzip.compress(data, 9, mtime=0))


def write_studies() -> None:
    """Merged configurations of the studies, and their specs. smoke is also written as YAML, to be run."""
    configs, specs = {}, {}
    for name, path in names.STUDIES.items():
        config = names.read_yaml(names.DEFAULTS)
        if path:
            config = names.merge(config, names.read_yaml(names.ROOT / path))
        configs[name], specs[name] = config, answers.specs(names.study_of(config))
    write_gzip("studies.json.gz", json.dumps({"configs": configs, "specs": specs}, sort_keys=True).encode())
    text = yaml.safe_dump(configs["smoke"], sort_keys=False, width=128)
    heading = "# config/config.yaml and config/smoke.yaml of commit b24a8b2, merged: the study of smoke_b24a8b2.csv.gz.\n"
    (HERE / "smoke_b24a8b2.yaml").write_text(heading + text)


def write_training(directory: Path) -> None:
    """Losses and gradient norms of short runs, and checkpoints of killed ones with what they do if they are not killed."""
    found = {"cpu": answers.cpu(), "versions": answers.versions()}
    found["trained"] = {name: answers.trained(name, directory) for name in answers.TRAINED}
    found["finished"] = {}
    for name in answers.RESUMED:
        path = answers.checkpoint_after(name, 2, directory / name)
        write_gzip(f"checkpoint_{name}.pt.gz", path.read_bytes())
        found["finished"][name] = answers.finished(name, directory / f"{name}-whole")
        found["finished"][name]["spec"] = names.spec_fields(answers.resumed_spec(name))
    write_json("training.json", found)


if __name__ == "__main__":
    main()
