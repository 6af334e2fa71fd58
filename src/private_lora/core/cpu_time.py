"""CPU time that this process and its children took, and that everybody else took beside them (Linux)."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
# Columns of the first line of /proc/stat after its name: user, nice, system, idle, iowait, irq, softirq, steal; the guest times
# that follow are in user and nice already.
IDLE = (3, 4)
STEAL = 7
COLUMNS = 8


@dataclass(frozen=True)
class CpuTimes:
    """Seconds since the machine started: busy (all cores, all processes, what was stolen included), stolen, own; the clock."""

    busy: float
    stolen: float
    own: float
    cores: int
    clock: float


class CpuMeter:
    """Shares of the machine's CPU time that others take from its making on. It costs nothing but two looks at counters."""

    def __init__(self):
        self._start = cpu_times()

    def shares(self) -> dict[str, float]:
        """`others_cpu_share` and, of that, `stolen_cpu_share` (by other virtual machines) so far; empty without /proc/stat."""
        start, end = self._start, cpu_times()
        if start is None or end is None or end.clock <= start.clock:
            return {}
        available = (end.clock - start.clock) * end.cores
        others = (end.busy - start.busy) - (end.own - start.own)
        stolen = end.stolen - start.stolen
        return {name: max(0.0, t / available) for name, t in (("others_cpu_share", others), ("stolen_cpu_share", stolen))}


def cpu_times() -> CpuTimes | None:
    """The counters now; None where the system has none."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    ticks = [int(text) for text in lines[0].split()[1 : 1 + COLUMNS]]
    busy = sum(value for index, value in enumerate(ticks) if index not in IDLE)
    cores = sum(line.startswith("cpu") for line in lines) - 1
    return CpuTimes(busy * TICK_S, ticks[STEAL] * TICK_S, own_cpu_s(), cores, time.monotonic())


def own_cpu_s() -> float:
    """CPU seconds of this process, of its children that have ended, and of those that still run, theirs included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used) + _descendants_cpu_s(os.getpid())


def _descendants_cpu_s(pid: int) -> float:
    """CPU seconds of the processes below one that still run."""
    parents, seconds = {}, {}
    for path in PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        # Fields 4 and 14 to 17 of proc(5): parent; user and system time, and both of its children that have ended.
        parents[int(path.parent.name)] = int(fields[1])
        seconds[int(path.parent.name)] = sum(map(int, fields[11:15])) * TICK_S
    below, waiting = 0.0, [pid]
    while waiting:
        parent = waiting.pop()
        children = [child for child, its in parents.items() if its == parent]
        below += sum(seconds[child] for child in children)
        waiting += children
    return below
