"""Client or worker killed at random moments: the same losses, no pair of mask and secret twice, no file for others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from slow_tests import slow

PROGRAM = Path(__file__).parents[2] / "helpers" / "killed_runs.py"


@pytest.mark.parametrize(
    ("who", "mask", "kills"),
    [
        slow("client", "session", 3),
        slow("client", "fresh", 3),
        slow("worker", "session", 3),
        slow("worker", "fresh", 3),
    ],
)
def test_whoever_is_killed_the_run_is_the_undisturbed_one(who, mask, kills, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(tmp_path / "trial"), who, mask, str(kills), "0"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    done = json.loads(ended.stdout.splitlines()[-1])
    assert done["kills"] == kills and done["runs"] and done["whole"]
    assert done["runs_that_differ"] == 0
    assert done["pairs"] > done["pairs_twice"] == 0
    assert done["open_to_others"] == []
