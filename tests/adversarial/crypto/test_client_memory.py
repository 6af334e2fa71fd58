"""What of a client's secrets is in its own memory, and what it lets out of it."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from process_memory import can_be_read, found_in

from private_lora.backends import load
from private_lora.core.secrets import OneProcess

PROGRAM = Path(__file__).parents[2] / "helpers" / "remembering_client.py"
MASK = 0xA5


@pytest.mark.parametrize(
    ("mask", "kinds", "needed"),
    [
        pytest.param("session", {"seed", "secret", "error", "spectrum", "pad", "phase"}, {"phase"}, marks=pytest.mark.slow),
        ("fresh", {"seed", "secret", "error", "spectrum"}, {"secret"}),
    ],
)
def test_a_client_keeps_only_what_an_open_question_needs_and_nothing_of_an_answered_one(mask, kinds, needed):
    command = [sys.executable, str(PROGRAM), mask]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            while_open = remembered(process, kinds)
            process.stdin.write("\n")
            process.stdin.flush()
            afterwards = remembered(process, kinds)
        finally:
            process.kill()
    assert while_open == needed  # which also shows that the search finds what is there
    assert afterwards == set()


def remembered(process, kinds):
    """Kinds of secrets in the memory of a client that waits."""
    told = json.loads(process.stdout.readline())
    assert set(told.values()) == kinds
    if not can_be_read(process.pid):
        pytest.skip("the memory of another process cannot be read here")
    patterns = {bytes(byte ^ MASK for byte in bytes.fromhex(text)): kind for text, kind in told.items()}
    found, searched = found_in(process.pid, patterns, writable=True)
    assert searched > 2**25
    return set(found.values())


def client_of(mask="session"):
    weight = np.random.default_rng(1).integers(-128, 128, (40, 7))
    backend = load("packed", mask=mask)
    plan = backend.plan(weight, 8)
    return backend.client(plan).prepare(weight), backend.server(plan, weight)


def rows(count=3):
    return np.random.default_rng(0).integers(-128, 128, (count, 40))


@pytest.mark.parametrize("mask", ["session", "fresh"])
@pytest.mark.parametrize("ending", ["decrypt", "forget", "close", "error"])
def test_the_key_of_a_question_is_overwritten_however_it_ends(mask, ending, monkeypatch):
    client, server = client_of(mask)
    question = client.encrypt(rows())
    (key,) = client.keys.secret.values()
    client.get_ready(question)
    arrays = [key.secrets, key.delta] if mask == "fresh" else [key.scale, key.slots[0][0]._phase[:3]]
    assert all(array.any() for array in arrays)
    answer = server.matmul(question)
    if ending == "decrypt":
        client.decrypt(answer)
    if ending == "forget":
        client.forget(question)
    if ending == "close":
        client.keys.close()
    if ending == "error":
        module = "exact" if mask == "fresh" else "session"
        monkeypatch.setattr(f"private_lora.backends.packed.{module}.decrypt_{'rows' if mask == 'fresh' else 'slots'}", None)
        with pytest.raises(TypeError):
            client.decrypt(answer)
    assert not any(array.any() for array in arrays)


def test_a_closed_client_has_no_pad_and_encrypts_nothing_more():
    client, server = client_of()
    answer, pad = server.matmul(client.encrypt(rows())), client._pad
    assert pad.low.any()
    client.keys.close()
    assert not pad.low.any() and not pad.high.any()
    assert pad.left == 0
    for use in (lambda: client.encrypt(rows()), lambda: client.decrypt(answer)):
        with pytest.raises(RuntimeError, match="are wiped"):
            use()
    with pytest.raises(RuntimeError, match="slots left"):
        pad.take(1)


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_a_fork_can_neither_encrypt_nor_decrypt_and_works_otherwise(mask):
    client, server = client_of(mask)
    question = client.encrypt(rows())
    answer, child = server.matmul(question), os.fork()
    if not child:
        refused = 0
        for use in (lambda: client.encrypt(rows()), lambda: client.get_ready(question), lambda: client.decrypt(answer)):
            try:
                use()
            except RuntimeError as error:
                refused += "forked" in str(error)
        os._exit(refused)
    # With a fresh mask there is nothing to get ready.
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (3 if mask == "session" else 2)
    assert client.decrypt(answer).shape == (3, 7)


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_nothing_that_holds_secrets_shows_them_or_is_pickled(mask):
    client, _ = client_of(mask)
    client.encrypt(rows())
    (key,) = client.keys.secret.values()
    holders = [client, client.keys, key, *client.keys.pads]
    assert len(holders) == (4 if mask == "session" else 3)
    for holder in holders:
        assert "array" not in repr(holder) and "[" not in repr(holder)
        with pytest.raises(TypeError, match="not serialized"):
            pickle.dumps(holder)


def test_a_process_of_its_own_may_go_on():
    OneProcess().check()
