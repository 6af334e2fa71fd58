"""Sidecars and records: atomic, and honest about code."""

import csv

import pytest

from private_lora.results import fingerprints
from private_lora.results.recorder import Recorder, collect
from private_lora.results.schema import COLUMNS


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
    with pytest.raises(ValueError, match="result schema"):
        collect([tmp_path / "a.csv", tmp_path / "c.csv"], out)
    assert out.read_text() == before
