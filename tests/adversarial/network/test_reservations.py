"""The memory that a worker reserves for a question is not less than what its product takes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from private_lora.backends import load

KIB = 1024  # unit of ru_maxrss on Linux


def taken(mask: str, columns: int, rows: int) -> dict[str, int]:
    """Bytes that one product takes besides the question's own, as Python and the system see it, and what is reserved."""
    weight = np.random.default_rng(0).integers(-128, 128, (columns, columns))
    backend = load("packed", mask=mask)
    plan = backend.plan(weight, 8)
    client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
    first, data = (client.encrypt(np.ones((count, columns), np.int64)).to_bytes() for count in (2, rows))

    def answer_to(question: bytes) -> bytes:
        return server.matmul(backend.ciphertext_from_bytes(question)).to_bytes()

    answer_to(first)  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer_to(data)
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB
    tracemalloc.start()
    answer = answer_to(data)
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cost = server.cost(rows)
    return {"resident": resident, "traced": traced, "answer": len(answer), "reserved": cost.bytes - cost.question}


def check(one: dict[str, int]) -> None:
    assert one["answer"] < one["traced"] <= one["reserved"]
    assert one["resident"] <= one["reserved"]


@pytest.mark.parametrize("mask", ["fresh", "session"])
def test_what_python_allocates_was_reserved(mask):
    check(taken(mask, 256, 700))


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["fresh", "session"])
def test_what_a_process_of_its_own_grows_by_was_reserved(mask):
    """Also what oneDNN allocates, which Python does not see."""
    command = [sys.executable, __file__, mask, "1024", "4096"]
    check(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


if __name__ == "__main__":
    print(json.dumps(taken(sys.argv[1], *map(int, sys.argv[2:]))))
