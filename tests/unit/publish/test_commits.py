"""Times of one machine that come from more than one commit say so; the commits are those of the sidecars behind the rows."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from synthetic_results import layer_rows, write_results

from private_lora.publish.tables import make_table
from private_lora.publish.tables.commits import MANY, ONE, with_commits
from private_lora.results.commits import FILE, Commit, collect_commits, read_commits
from private_lora.results.recorder import Recorder


def table(**columns) -> pd.DataFrame:
    found = pd.DataFrame(columns | {"basis": ["measured"] * 2, "run_ids": ["a b", "c"]})
    found.attrs["notes"] = ["x: a number."]
    return found


def commit(run_id: str, name: str, machine: str = "M, 2 cores", instructions: str = "") -> Commit:
    return Commit(run_id, machine, name, instructions)


def test_one_commit_for_one_machine_is_named():
    made = with_commits(table(step_time_s_median=[1, 2]), [commit("a", "1234567"), commit("b", "1234567")])
    assert list(made) == ["step_time_s_median", "commits", "basis", "run_ids"]
    assert made["commits"].tolist() == ["1234567", ""]
    assert made.attrs["notes"] == ["x: a number.", f"{ONE}. M, 2 cores: 1234567 (2 runs)."]


def test_more_than_one_commit_on_a_machine_is_said_and_one_on_each_of_two_is_not():
    commits = [commit("a", "1111111", instructions="AVX2"), commit("b", "2222222", instructions="AVX2"), commit("c", "1111111")]
    made = with_commits(table(server_s=[1, 2]), commits[:2])
    assert made["commits"].tolist() == ["1111111 2222222", ""]
    assert made.attrs["notes"][1] == f"{MANY}. M, 2 cores (AVX2): 1111111 (1 run), 2222222 (1 run)."
    apart = [commit("a", "1111111"), commit("c", "2222222+", "N, 2 cores")]
    (_, note) = with_commits(table(server_s=[1, 2]), apart).attrs["notes"]
    assert note.startswith(ONE) and note.endswith("N, 2 cores: 2222222+ (1 run); +: with uncommitted changes.")


def test_the_machine_of_a_line_decides_which_run_of_that_name_is_meant():
    commits = [commit("a", "1111111"), commit("a", "2222222", "N, 2 cores")]
    found = with_commits(table(step_time_s=[1, 2], machine=["N, 2 cores", ""]), commits)
    assert found["commits"].tolist() == ["2222222", ""]
    assert with_commits(table(step_time_s=[1, 2]), commits)["commits"].tolist() == ["1111111", ""]


@pytest.mark.parametrize("columns", [{"final_loss": [1, 2]}, {"unit": ["B", "B"]}])
def test_a_table_without_times_stays_as_it_is(columns):
    assert "commits" not in with_commits(table(**columns), [commit("a", "1111111")])
    assert "commits" not in with_commits(table(server_s=[1, 2]), [])


def sidecar(run_id: str, name: str, **environment) -> dict:
    known = {"commit": name * 40, "dirty": False, "cpu_flags": ["avx2"]}
    return {"spec": {"run_id": run_id}, "environment": known | environment}


def test_commits_are_those_of_the_sidecars_beside_the_rows(tmp_path):
    results, other = tmp_path / "results", tmp_path / "other"
    for run_id, directory in (("layer_a", results), ("layer_a", other), ("layer_b", other)):
        recorder = Recorder({"run_id": run_id, "machine": "M"})
        recorder.add("matmul_time_s", 1.0, "s")
        directory.mkdir(exist_ok=True)
        recorder.write(directory / f"{run_id}.csv")
    path = results / "layer" / "layer_a" / "sidecar.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(sidecar("layer_a", "1", dirty=True)))
    (other / "sidecars.jsonl").write_text("".join(json.dumps(sidecar(n, "2")) + "\n" for n in ("layer_a", "layer_b")))
    collect_commits(results, [results / "layer_a.csv"], [other / "layer_a.csv", other / "layer_b.csv"], tmp_path / FILE)
    assert read_commits(tmp_path) == [Commit("layer_a", "M", "1111111+", "AVX2"), Commit("layer_b", "M", "2222222", "AVX2")]


def test_files_of_a_table_say_it(tmp_path):
    data = write_results(tmp_path, [], layer_rows(("1x256x256",)), published=False)
    runs = sorted(set(pd.read_csv(data / "layer.csv", keep_default_na=False)["run_id"]))
    lines = [f"{run_id},,{number * 7}," for run_id, number in zip(runs, "123456789", strict=False)]
    (data / FILE).write_text("\n".join(["run_id,machine,commit,instructions", *lines]) + "\n")
    make_table("layer", data, tmp_path / "layer.csv")
    assert MANY in (tmp_path / "layer.md").read_text()
    assert "| commits |" not in (tmp_path / "layer.md").read_text()
    assert set(" ".join(pd.read_csv(tmp_path / "layer.csv", dtype=str)["commits"]).split()) == {
        n * 7 for n in "123456789"[: len(runs)]
    }
