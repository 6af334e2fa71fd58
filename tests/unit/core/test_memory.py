"""Freed memory stays with the process once a backend is loaded, and goes back when asked."""

import os
import subprocess
import sys

import pytest

from private_lora.core import memory

PROGRAM = """
import resource
import numpy as np
from private_lora.backends import load
from private_lora.core.memory import _status_bytes, give_back_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(2**26, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

load("integer")
faults()
again, held = faults(), _status_bytes("self", "VmRSS")
give_back_memory()
print(again, held - _status_bytes("self", "VmRSS"))
"""


@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="glibc's malloc")
def test_large_blocks_are_used_again_and_given_back_when_asked():
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    again, given_back = map(int, done.stdout.split())
    assert again < 10
    assert given_back > 0.9 * 2**26


def test_a_process_whose_malloc_is_tuned_or_another_is_left_alone(monkeypatch):
    called = []

    class Library:
        def mallopt(self, *arguments):
            called.append(arguments)

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0")
    memory.keep_freed_memory()
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
    assert called == []
