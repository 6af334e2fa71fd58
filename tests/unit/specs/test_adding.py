"""What packages of others add: found beside ours, and refused in one sentence where it cannot be used."""

import os
import re
import subprocess
import sys

import pytest

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.specs.descriptors import ActivationQuantizer, BackendDescriptor, PairDescriptor, Published

HEAD = "from private_lora.specs.descriptors import ActivationQuantizer, BackendDescriptor, Published\n"
TAKEN = 'ENTRY = BackendDescriptor("packed", "somebodys.backend:Own", "packed", "#123456")'
WRONG = {
    "taken": (TAKEN, "backends", "the name 'packed' is taken: choose another, or uninstall the package"),
    "no colour": (
        TAKEN.replace("#123456", "pink").replace('"packed", "s', '"own", "s'),
        "backends",
        "cannot be loaded (colour of 'own' must be a colour such as #0072B2, not 'pink'): correct somebodys:ENTRY",
    ),
    "other kind": (
        TAKEN.replace('"packed", "s', '"own", "s'),
        "quantizers",
        "must name a ActivationQuantizer or WeightQuantizer or PairDescriptor of private_lora.specs.descriptors, not",
    ),
    "broken": ("import no_such_module", "data", "cannot be loaded (No module named 'no_such_module'): correct somebodys:ENTRY"),
    "misspelled": ("ENTRIES = 1", "tables", "cannot be loaded (module 'somebodys' has no attribute 'ENTRY')"),
    "published": (
        'ENTRY = Published("runs", "All", "somebodys.tables:runs", "All.")',
        "tables",
        "the name 'runs' is taken: choose another, or uninstall the package",
    ),
}


@pytest.fixture
def installed(tmp_path):
    """A function that installs a package with one entry point, and gives the environment in which it is."""

    def install(code: str, group: str) -> dict:
        (tmp_path / "somebodys").mkdir()
        (tmp_path / "somebodys/__init__.py").write_text(HEAD + code)
        metadata = tmp_path / "somebodys-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[private_lora.{group}]\nown = somebodys:ENTRY\n")
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}

    return install


def refused(environment, *command: str) -> str:
    """The sentence with which a command ends."""
    result = subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode in (1, 2), result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert len(said) == 1, result.stderr
    return said[0]


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_refused_in_one_sentence(case, installed):
    code, group, message = WRONG[case]
    said = refused(installed(code, group), "private_lora", "validate", "--config", "config/smoke.yaml")
    assert re.match(rf"private-lora( validate)?: package somebodys: entry point own of private_lora\.{group}\b", said)
    assert message in said


def test_a_study_refuses_it_too(installed):
    command = "snakemake", "--dry-run", "--cores", "1", "--configfile", "config/smoke.yaml"
    said = refused(installed(TAKEN, "backends"), *command)
    assert said.startswith("Error: package somebodys: entry point own of private_lora.backends: the name 'packed' is taken")


def test_code_that_is_not_there_is_refused_when_a_study_is_planned(installed, tmp_path):
    environment = installed(TAKEN.replace('"packed", "s', '"own", "s'), "backends")
    (tmp_path / "own.yaml").write_text(
        "stages: [sweep]\nsweep: {groups: [{model: nano, backends: [own], bits: [8]}]}\nbeside: []\n"
    )
    said = refused(environment, "snakemake", "--dry-run", "--cores", "1", "--configfile", str(tmp_path / "own.yaml"))
    assert "says that its code is in somebodys.backend, and there is no such module" in said


@pytest.mark.parametrize(
    "make",
    [
        lambda: BackendDescriptor("own", "somebodys.backend.Own", "own", "#123456"),
        lambda: BackendDescriptor("own", "somebodys.backend:Own", "own", "#123456", basis="exact"),
        lambda: BackendDescriptor("own", "somebodys.backend:Own", "own", "#123456", kind="product"),
        lambda: ActivationQuantizer("own", "half_of_each_row"),
        lambda: PairDescriptor("own", "a", "b", "blue"),
        lambda: Published("own", "Own", "own_table", "Own."),
    ],
)
def test_a_descriptor_that_would_fail_at_the_end_of_a_study_is_refused(make):
    with pytest.raises(ValueError, match=r"\w+ of 'own' must be "):
        make()


def test_what_is_ours_is_not_changed_by_others():
    from private_lora.specs.descriptors import by_name

    ours = PairDescriptor("a", "b", "c"), PairDescriptor("d", "e", "f")
    assert list(by_name(ours, "private_lora.quantizers", PairDescriptor))[:2] == ["a", "d"]
    with pytest.raises(UserError, match="unknown backend 'own'"):
        from private_lora.backends import load

        load("own")
