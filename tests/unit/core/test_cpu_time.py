"""CPU time of others: what the machine was busy with, without this process and its children."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from private_lora.core import cpu_time
from private_lora.core.cpu_time import CpuMeter, CpuTimes, cpu_times, own_cpu_s

BEGIN = CpuTimes(busy=100.0, stolen=5.0, own=10.0, cores=2, clock=1000.0)


@pytest.mark.parametrize(
    ("later", "others", "stolen"),
    [
        # Ten seconds on two cores: 20 s could be had.
        ({"busy": 112.0, "own": 18.0}, 0.2, 0.0),
        ({"busy": 112.0, "own": 18.0, "stolen": 6.0}, 0.2, 0.05),
        ({"busy": 108.0, "own": 18.0}, 0.0, 0.0),
        # Ticks are counted roughly: own time may come out larger than all.
        ({"busy": 107.9, "own": 18.0}, 0.0, 0.0),
    ],
)
def test_others_have_what_is_not_ours(later, others, stolen, monkeypatch):
    times = iter([BEGIN, replace(BEGIN, clock=1010.0, **later)])
    monkeypatch.setattr(cpu_time, "cpu_times", lambda: next(times))
    assert CpuMeter().shares() == pytest.approx({"others_cpu_share": others, "stolen_cpu_share": stolen})


def test_without_counters_there_is_no_share(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu_time, "PROC", tmp_path)
    assert cpu_times() is None
    assert CpuMeter().shares() == {}


def test_counters_are_read_in_seconds(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu_time, "PROC", tmp_path)
    monkeypatch.setattr(cpu_time, "TICK_S", 0.01)
    ticks = "100 20 30 7000 400 5 6 77 50 0"
    (tmp_path / "stat").write_text(f"cpu  {ticks}\ncpu0 {ticks}\ncpu1 {ticks}\ncpu2 {ticks}\nintr 9\n")
    found = cpu_times()
    assert (found.busy, found.stolen, found.cores) == (pytest.approx(2.38), pytest.approx(0.77), 3)


# A process whose own child spins for as much CPU time as it is told.
SPINNING_CHILD = """
import subprocess, sys
spin = "import time\\nwhile time.process_time() < float({0!r}): pass\\nprint(flush=True)\\nimport sys; sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", spin.format(sys.argv[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(flush=True)
sys.stdin.read()
child.communicate()
"""


def test_running_and_ended_descendants_are_ours():
    before = own_cpu_s()
    process = subprocess.Popen(
        [sys.executable, "-c", SPINNING_CHILD, "0.3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    running = own_cpu_s()
    process.communicate()
    ended = own_cpu_s()
    assert running - before >= 0.25
    assert ended - before >= 0.25
    # They are not counted twice, while they run and when they have ended.
    assert ended - running < 0.25


def test_own_work_is_not_that_of_others():
    begin = cpu_times()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    end = cpu_times()
    assert end.own - begin.own >= 0.3
    assert end.busy - begin.busy >= 0.2
