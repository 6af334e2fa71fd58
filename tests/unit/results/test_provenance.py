"""Sidecars and records: atomic, and honest about code."""

import csv
import json
import shlex
import sys

import pytest

from private_lora.core.errors import UserError
from private_lora.results import fingerprints, provenance
from private_lora.results.recorder import Recorder, collect
from private_lora.results.schema import COLUMNS, SCHEMA_VERSION


def test_fingerprint_ignores_comments_and_docstrings_and_sees_code(tmp_path):
    source = tmp_path / "module.py"

    def fingerprint(text):
        source.write_text(text)
        fingerprints._canonical.cache_clear()
        return fingerprints.code_fingerprint([source])

    before = fingerprint('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert fingerprint('"""Other."""\n\n\ndef f(x):  # why\n    return x + 1\n') == before
    assert fingerprint('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 2\n') != before


def test_recorder_writes_the_schema_and_refuses_other_columns(tmp_path):
    recorder = Recorder({"run_id": "a", "backend": "float", "weight_bits": None})
    recorder.add("loss", 1.5, "nats", phase="train", step=1)
    recorder.add("loss", None, phase="eval", status="failed")
    recorder.write(tmp_path / "records.csv")
    rows = list(csv.DictReader((tmp_path / "records.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["value"], rows[0]["weight_bits"], rows[1]["value"], rows[1]["status"]) == ("1.5", "", "", "failed")
    with pytest.raises(ValueError, match="not a column"):
        recorder.add("loss", 1.0, stepp=3)


def test_collect_joins_and_refuses_a_file_of_another_schema(tmp_path):
    for name in ("a", "b"):
        recorder = Recorder({"run_id": name})
        recorder.add("loss", 1.0)
        recorder.write(tmp_path / f"{name}.csv")
    out = tmp_path / "all.csv"
    collect([tmp_path / "a.csv", tmp_path / "b.csv"], out)
    assert [row["run_id"] for row in csv.DictReader(out.read_text().splitlines())] == ["a", "b"]
    (tmp_path / "c.csv").write_text("x,y\n1,2\n")
    before = out.read_text()
    with pytest.raises(UserError, match="result schema"):
        collect([tmp_path / "a.csv", tmp_path / "c.csv"], out)
    assert out.read_text() == before


def test_commit_and_state_are_those_of_the_start(tmp_path, monkeypatch):
    provenance.code_state.cache_clear()
    monkeypatch.setattr(provenance, "_git", lambda *arguments: {"rev-parse": "old"}.get(arguments[0], " M file"))
    started = provenance.Start()
    monkeypatch.setattr(provenance, "_git", lambda *arguments: {"rev-parse": "new"}.get(arguments[0], ""))
    found = started.environment()
    assert (found["commit"], found["dirty"]) == ("old", True)
    # A second run of this process runs the code that it loaded for the first.
    assert provenance.Start().environment()["commit"] == "old"
    provenance.code_state.cache_clear()
    assert found["started_at"] <= found["finished_at"]
    assert {"load_1min", "load_1min_end", "cpu_flags", "processor", "cores", "threads", "versions", "malloc"} <= set(found)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/somewhere/private_lora/__main__.py", ["python", "-m", "private_lora"]),
        ("/bin/private-lora", ["python", "-m", "private_lora"]),
        ("/x/other.py", ["other.py"]),
    ],
)
def test_the_command_is_quoted_for_a_shell(program, expected, monkeypatch):
    arguments = ["finetune", "--spec", '{"data": "it\'s"}']
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    assert shlex.split(provenance.environment()["command"]) == [*expected, *arguments]


def test_flags_are_those_of_the_processor(monkeypatch):
    monkeypatch.setattr(provenance, "_cpuinfo", lambda key: "fpu sse avx2 amx_int8" if key == "flags" else "")
    assert provenance.environment()["cpu_flags"] == ["avx2", "amx_int8"]


@pytest.mark.parametrize(
    ("flags", "label"),
    [
        ("avx2 fma", "AVX2"),
        ("avx2 fma avx_vnni", "AVX2 VNNI"),
        ("avx2 fma avx512f avx512bw avx512_bf16 avx512_vnni", "AVX-512 VNNI BF16"),
        ("avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16", "AVX-512 VNNI BF16 AMX"),
        ("asimd asimddp i8mm bf16", "NEON DOT I8MM BF16"),
        ("", ""),
    ],
)
def test_a_machines_name_ends_in_what_decides_int8_and_bf16(flags, label, monkeypatch):
    known = {"flags": flags, "model name": "P 1"}
    monkeypatch.setattr(provenance, "_cpuinfo", lambda key: known.get(key, ""))
    monkeypatch.setattr(provenance.os, "cpu_count", lambda: 2)
    assert provenance.machine() == provenance.environment()["machine"] == ", ".join(filter(None, ("P 1", "2 cores", label)))


def test_a_sidecar_has_the_schema_version(tmp_path):
    provenance.write_sidecar(tmp_path / "sidecar.json", {"spec": {}})
    assert json.loads((tmp_path / "sidecar.json").read_text()) == {"schema_version": SCHEMA_VERSION, "spec": {}}


def test_an_interrupted_run_of_before_goes_on_in_the_present_columns():
    recorder = Recorder({"run_id": "a", "options": "{}"})
    recorder.resume([{"run_id": "a", "metric": "loss", "value": 1.0}])
    (row,) = recorder.rows
    assert (tuple(row), row["schema_version"], row["options"], row["value"]) == (COLUMNS, SCHEMA_VERSION, "{}", 1.0)
