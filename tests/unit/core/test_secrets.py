"""Hardening of a client's process, and what is said of it."""

import json
import subprocess
import sys

PROGRAM = """
import json, resource
from private_lora.core.secrets import hardening, harden_process
before = hardening()
harden_process()
status = open("/proc/self/status").read()
locked = next(line.split()[1] for line in status.splitlines() if line.startswith("VmLck"))
limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
import ctypes
print(json.dumps([before, hardening(), limit, ctypes.CDLL(None).prctl(3), int(locked)]))
"""


def test_core_dumps_are_off_and_locked_memory_is_told_as_it_is():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after, limit, dumpable, locked = json.loads(result.stdout)
    assert before == {}
    assert (limit, dumpable) == (0, 0)
    assert after["core_dumps"] == "off"
    assert (after["locked_memory"] == "all") == (locked > 0)
    assert after["locked_memory"] == "all" or after["locked_memory"].startswith("no: ")
