"""Runs that others disturbed are known by their records, where their time is a result."""

import pytest
from synthetic_results import records, write_results

from private_lora.results.disturbance import DISTURBED_SHARE
from private_lora.results.reader import Data

ROW = {"device": "cpu", "backend": "packed", "status": "ok", "basis": "measured", "phase": "run", "model": "m"}
NOTE = "other programs used cores"


def share(run_id, stage, value, **columns) -> dict:
    return ROW | {"run_id": run_id, "stage": stage, "metric": "others_cpu_share", "value": value, "unit": "fraction"} | columns


@pytest.fixture
def data(tmp_path):
    """A full step, a sweep and a block beside others, a quiet layer, a noted run through workers and one of another machine."""
    runs = [share("full", "full_size", 0.314), share("sweep", "sweep", 0.9)]
    layer = [share("layer", "layer", 0.9 * DISTURBED_SHARE)]
    noted = share("noted", "loopback", 2, metric="blocks", note=NOTE)
    loopback = [noted, share("both", "loopback", 0.5, note=NOTE)]
    found = write_results(tmp_path, runs, layer, False, [share("block", "block", 0.06)], loopback)
    (found / "beside").mkdir()
    beside = [share("block", "block", 0.9, machine="there"), share("theirs", "block", 0.1, machine="there")]
    records(beside).to_csv(found / "beside" / "block.csv", index=False)
    return Data(found)


def test_runs_beyond_the_threshold_and_noted_ones_say_what_disturbed_them(data):
    assert data.disturbed == {
        "full": "others took 31 % of the CPU time",
        "block": "others took 6 % of the CPU time",
        "theirs": "others took 10 % of the CPU time",
        "noted": NOTE,
        "both": f"others took 50 % of the CPU time; {NOTE}",
    }


def test_a_study_without_records_has_no_disturbed_run(tmp_path):
    assert Data(tmp_path).disturbed == {}
