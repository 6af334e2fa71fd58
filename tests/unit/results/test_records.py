"""Records are kept, and published, only of runs that a commit can repeat; and machines have one name everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.results.recorder import Recorder
from private_lora.results.records import FILES, check_committed, record, run_ids
from private_lora.results.sidecars import machine_of, read_sidecars
from private_lora.study.config import DEFAULTS, merge, read_yaml, study_of

RECORDED = sorted(path.parent for path in (ROOT / "results" / "recorded").glob("*/sidecars.jsonl"))
CLEAN = {"commit": "a" * 40, "dirty": False, "processor": "P", "cores": 2}


def study(results: Path, **environment) -> Path:
    """A study of one layer, with rows, and a run that no row is of any more."""
    for run_id in ("layer_a", "layer_old"):
        path = results / "layer" / run_id / "sidecar.json"
        path.parent.mkdir(parents=True)
        known = CLEAN | environment if run_id == "layer_a" else {"dirty": True}
        path.write_text(json.dumps({"spec": {"run_id": run_id}, "environment": known}))
    (results / "data").mkdir()
    for name in FILES:
        recorder = Recorder({"run_id": "layer_a"})
        if name == "estimate.csv":
            recorder.add("matmul_time_s", 1.0, "s")
        recorder.write(results / "data" / name)
    return results


def test_a_study_is_kept_with_the_sidecars_of_its_rows_and_without_empty_files(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "block.csv").write_text("of a longer study before\n")
    assert record(study(tmp_path / "results"), kept) == 1
    assert list(read_sidecars(kept / "sidecars.jsonl")) == ["layer_a"]
    assert sorted(path.name for path in kept.iterdir()) == ["estimate.csv", "sidecars.jsonl"]
    check_committed(kept)


@pytest.mark.parametrize("changed", [{"dirty": True}, {"dirty": None}, {"commit": ""}])
def test_what_no_commit_can_repeat_is_neither_kept_nor_published(changed, tmp_path):
    results = study(tmp_path / "results", **changed)
    with pytest.raises(UserError, match=r"the code of 1 of 1 runs is in no commit.*layer_a.*commit, run them again"):
        record(results, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    kept = tmp_path / "by-hand"
    kept.mkdir()
    (kept / "estimate.csv").write_text((results / "data" / "estimate.csv").read_text())
    (kept / "sidecars.jsonl").write_text((results / "layer" / "layer_a" / "sidecar.json").read_text() + "\n")
    for key, value in (("beside", [str(kept)]), ("recorded", str(kept))):
        with pytest.raises(UserError, match=rf"^config: {key}.*is in no commit"):
            study_of(merge(read_yaml(DEFAULTS), {key: value}))


def test_a_directory_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no runs with published rows"):
        record(tmp_path, tmp_path / "kept")


@pytest.mark.parametrize("directory", RECORDED, ids=lambda path: path.name)
def test_every_record_of_the_repository_is_of_a_commit(directory):
    check_committed(directory)
    known = read_sidecars(directory / "sidecars.jsonl")
    rows = {run_id for name in FILES if (directory / name).is_file() for run_id in run_ids(directory / name)}
    assert rows and rows <= set(known)


def test_a_machine_has_the_name_of_its_rows():
    old = {"processor": "AMD EPYC", "cores": 2}
    assert machine_of(old) == "AMD EPYC, 2 cores"
    assert machine_of(old | {"machine": "AMD EPYC, 2 cores, AVX2"}) == "AMD EPYC, 2 cores, AVX2"
    assert machine_of({}) == ""
