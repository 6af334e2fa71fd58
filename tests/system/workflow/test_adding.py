"""A package of somebody else, as docs/adding.md has it: installed, and seen wherever a study shows what it is made of."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys

import pytest

from private_lora.core.paths import ROOT

PAGE = (ROOT / "docs" / "adding.md").read_text()
FILE = re.compile(r"^`(own-parts/\S+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
(COMMANDS,) = re.findall(r"^### Install it and run a study\n.*?^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
((STUDY_FILE, _, STUDY),) = re.findall(r"^cat > (\S+) <<'(\w+)'\n(.*?)^\2$", COMMANDS, re.MULTILINE | re.DOTALL)
PIP = ["--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
RUNS = {
    "sweep_nano_float_seed0",
    "sweep_nano_integer_clipped-token_static-channel_8bit_seed0",
    "sweep_nano_truncated_clipped-token_static-channel_8bit_seed0",
}
OURS = "sweep_nano_truncated_clipped-token_static-channel_8bit_seed0"


class Place:
    """A directory to work in, and an environment in which the package is installed."""

    def __init__(self, directory):
        self.directory, self.packages = directory, directory / "packages"
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(self.packages), str(ROOT / "src")])}

    def run(self, *words: str) -> str:
        """What `python -m ...` says on both channels; it must succeed."""
        command = [sys.executable, "-m", *words]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run(command, env=self.environment, cwd=self.directory, text=True, **both, check=False)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def rows(self, path: str) -> list[dict]:
        with (self.directory / "results/own" / path).open(newline="") as handle:
            return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """With the page's files typed and its package installed as the page says, into a directory and without a network."""
    place = Place(tmp_path_factory.mktemp("own"))
    files = FILE.findall(PAGE)
    for name, text in [*files, ("own-parts/own_parts/__init__.py", ""), (STUDY_FILE, STUDY)]:
        (place.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (place.directory / name).write_text(text)
    (tree,) = re.findall(r"^```\n(own-parts\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    typed = {path.name for path in (place.directory / "own-parts").rglob("*.*")}
    assert set(re.findall(r"[\w.]+\.(?:py|toml)", tree)) == typed
    for name in ("Snakefile", "workflow", "config", "resources"):
        (place.directory / name).symlink_to(ROOT / name)
    (place.directory / "results").mkdir()
    (place.directory / "results/kernels.txt").touch()  # they are compiled beside the sources of this clone
    (words,) = re.findall(r"^pip (install .*)$", COMMANDS, re.MULTILINE)
    place.run("pip", *words.split(), *PIP, "--target", str(place.packages))
    return place


@pytest.fixture(scope="module")
def study(place) -> Place:
    """The page's study, run by Snakemake."""
    (line,) = re.findall(r"^(snakemake .*)$", COMMANDS, re.MULTILINE)
    place.run(*line.split(), "--quiet", "all")
    return place


def test_it_is_planned(place):
    assert "3 runs, 0 measurements" in place.run("private_lora", "validate", "--config", STUDY_FILE)
    said = place.run("private_lora", "finetune", "--help")
    assert all(name in said for name in ("truncated", "clipped_per_token", "weekdays"))


def test_it_passes_the_contract(place):
    tests = [str(ROOT / "tests/contract/test_backends.py"), "-k", "truncated", "-c", str(ROOT / "pyproject.toml")]
    assert re.search(r"\d\d passed", place.run("pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *tests))


def test_it_is_in_the_records(study):
    rows = [row for row in study.rows("data/convergence.csv") if row["run_id"] == OURS]
    about = {column: {row[column] for row in rows} for column in ("backend", "dataset", "activation_quantizer", "basis")}
    assert about == {
        "backend": {"truncated"},
        "dataset": {"weekdays"},
        "activation_quantizer": {"clipped_per_token"},
        "basis": {"measured"},
    }
    assert sum(row["metric"] == "loss" and row["phase"] == "train" for row in rows) == 4
    # About what its plan says: uniform over the 2^8 values that are dropped, but for rows of zeros, whose error is the largest.
    (noise,) = [float(row["value"]) for row in rows if row["metric"] == "accumulator_noise_std"]
    assert noise == pytest.approx(2**8 / 12**0.5, rel=0.25)


def test_it_is_in_a_table_of_ours_and_in_its_own(study):
    losses = {row["backend"]: row for row in study.rows("tables/final_loss.csv")}
    assert {name: row["quantizer"] for name, row in losses.items()} == {
        "float": "float",
        "integer": "Clip-SC",
        "truncated": "Clip-SC",
    }
    assert len({row["eval_loss_mean"] for row in losses.values()}) == 3
    assert {row["run_ids"] for row in study.rows("tables/truncation.csv")} == RUNS
    assert "<title>What truncation costs</title>" in (study.directory / "results/own/tables/truncation.html").read_text()


def test_it_is_in_figures(study):
    drawn = {row["run_ids"]: row["series"] for row in study.rows("figures/final_loss_vs_bits.csv") if row["run_ids"]}
    assert drawn.pop(OURS) == "Clip-SC, integer, truncated"
    assert list(drawn.values()) == ["Clip-SC"]  # float is the line that the gaps are from
    assert any("Clip-SC" in row["panel"] for row in study.rows("figures/loss_curves.csv"))
    for name in ("final_loss_vs_bits", "loss_curves"):
        assert (study.directory / f"results/own/figures/{name}.png").stat().st_size > 10_000


def test_it_is_in_the_report(study):
    """The table with title and caption, the backend and the pair in what is folded."""
    text = (study.directory / "results/own/report.html").read_text()
    for part in ("What truncation costs", "error of its decrypted sums", "truncated", "Clip-SC", "weekdays"):
        assert part in text, part


def test_a_line_of_its_table_is_traced_to_its_package(study):
    (words,) = re.findall(r"^private-lora (trace .*)$", COMMANDS, re.MULTILINE)
    said = study.run("private_lora", *words.split())
    assert OURS in said
    assert "own-parts 1.0" in said


def test_what_runs_again_after_a_change(study):
    modules = study.packages / "own_parts"
    dry = ["snakemake", "--cores", "1", "--configfile", STUDY_FILE, "--dry-run", "--quiet", "rules"]

    def jobs_after(name: str, old: str, new: str) -> set[str]:
        text = (modules / name).read_text()
        assert old in text
        (modules / name).write_text(text.replace(old, new))
        found = set(re.findall(r"^(\w+) +\d+$", study.run(*dry), re.MULTILINE)) - {"total", "all"}
        (modules / name).write_text(text)
        return found

    assert jobs_after("table.py", "lines = []", "lines = list()") == {"publish", "report"}
    assert jobs_after("backend.py", "unit // 2", "unit // 3") == {"finetune", "publish", "report"}
