"""No pair of mask and secret twice, and no mask with more secrets than it may have, whoever is killed whenever."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from slow_tests import SLOW

from private_lora.backends import load
from private_lora.backends.packed import masks as module
from private_lora.backends.packed import session
from private_lora.backends.packed.exact import PackedKeys
from private_lora.backends.packed.masks import MOST_SECRETS, RESERVED_AT_ONCE, Masks
from private_lora.core.errors import Interrupted, UserError

PROGRAM = Path(__file__).parents[2] / "helpers" / "mortal_client.py"


def ledger(directory):
    return json.loads((directory / "masks.json").read_text())


@pytest.mark.parametrize(("questions", "most"), [(2_000, 512), pytest.param(100_000, 4096, marks=SLOW)])
def test_no_pair_of_mask_and_secret_occurs_twice_through_kills_and_retries(questions, most, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    directory, log = tmp_path / "hints", tmp_path / "log"
    command = [sys.executable, str(PROGRAM), str(directory), str(log), str(questions), str(most), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    endings, lines = json.loads(done.stdout), log.read_text().splitlines()
    pairs = [line.split()[1:] for line in lines if line.startswith("p")]
    assert lines.count("q") >= questions
    assert endings["-9"] >= 15 and endings["3"] >= 1
    assert len({pair for _, pair in pairs}) == len(pairs) > most
    secrets = Counter(mask for mask, _ in pairs)
    assert len(secrets) > 1  # a new seed, since one had had its secrets
    assert max(secrets.values()) <= most
    print(f"{lines.count('q'):,} questions, {len(pairs):,} secrets under {len(secrets)} masks, ends: {endings}")


def test_secrets_are_on_disk_before_one_is_drawn(tmp_path, monkeypatch):
    weight, backend = np.ones((2, 1), np.int64), load("packed")
    plan = backend.plan(weight, 8)
    client, events = backend.client(plan, PackedKeys(tmp_path)).prepare(weight), []

    def told(name, holder, attribute):
        call = getattr(holder, attribute)

        def telling(*arguments, **keywords):
            events.append((name, ledger(tmp_path)["reserved"]))
            return call(*arguments, **keywords)

        monkeypatch.setattr(holder, attribute, telling)

    told("to disk", module.os, "fsync")
    told("replaced", module.os, "replace")
    told("drawn", session, "fresh_secrets")
    told("pad made", session, "Pad")
    client.encrypt(np.ones((1, 2), np.int64))
    # The file's bytes, its name, the directory; then the secret.
    before, after = [("to disk", 0), ("replaced", 0)], [("to disk", 256), ("drawn", 256), ("pad made", 256)]
    assert RESERVED_AT_ONCE == 256
    assert events == before + after


def test_a_reservation_serves_many_and_the_next_one_comes_in_time(tmp_path):
    masks = Masks(tmp_path)
    key, other = masks.key(b"1"), masks.key(b"2")
    assert (len(key), ledger(tmp_path)["reserved"]) == (32, 0) and key != other
    for secrets, reserved in ((1, 1), (RESERVED_AT_ONCE - 1, 1), (1, 2), (5 * RESERVED_AT_ONCE, 7)):
        masks.spend(key, secrets)
        assert ledger(tmp_path)["reserved"] == reserved * RESERVED_AT_ONCE
    # What is reserved is for every mask.
    masks.spend(other, 6 * RESERVED_AT_ONCE)
    assert ledger(tmp_path)["reserved"] == 7 * RESERVED_AT_ONCE
    assert masks.most_used == 6 * RESERVED_AT_ONCE + 1


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_limit_is_kept_and_the_next_start_has_a_new_seed(on_disk, tmp_path):
    directory, most = tmp_path if on_disk else None, 4 * RESERVED_AT_ONCE
    masks = Masks(directory, most)
    key = masks.key(b"1")
    for _ in range(most):
        masks.spend(key, 1)
    for secrets in (1, RESERVED_AT_ONCE, 10**6):
        with pytest.raises(Interrupted, match=rf"a mask has had its {most} secrets") as caught:
            masks.spend(key, secrets)
        assert "\n" not in str(caught.value)
    assert masks.most_used == most
    following = Masks(directory, most)
    assert following.seed != masks.seed
    following.spend(following.key(b"1"), 1)


def test_hints_of_masks_that_are_used_up_go_with_them(tmp_path):
    masks, old = Masks(tmp_path, RESERVED_AT_ONCE), tmp_path / "of-the-old-seed.hint"
    old.write_bytes(b"")
    assert Masks(tmp_path, RESERVED_AT_ONCE).seed == masks.seed and old.exists()
    masks.spend(masks.key(b"a product"), 1)
    assert Masks(tmp_path, RESERVED_AT_ONCE).seed != masks.seed and not old.exists()


def test_the_default_limit_is_that_of_the_proof():
    assert Masks()._most == MOST_SECRETS == 2**20
    assert Masks().seed != Masks().seed


def test_two_processes_share_a_directory_but_no_secret(tmp_path):
    most = 8 * RESERVED_AT_ONCE
    first, second = Masks(tmp_path, most), Masks(tmp_path, most)
    assert first.seed == second.seed
    used = 0
    with pytest.raises(Interrupted):
        for i in range(most):
            (first, second)[i % 3 == 0].spend(first.key(b"1"), 1)
            used += 1
            assert ledger(tmp_path)["reserved"] >= used
    assert most / 2 < used <= most
    third = Masks(tmp_path, most)
    assert third.seed != first.seed
    # Those that still have the old seed do not count on the new one's account.
    before = ledger(tmp_path)
    for old in (first, second):
        with pytest.raises(Interrupted):
            old.spend(old.key(b"2"), most)
    assert ledger(tmp_path) == before


DAMAGES = ["", "{}", "[]", "3", "{", '{"seed": "00"}', '{"seed": "zz", "reserved": 0}', b"\xff\xfe", '{"reserved": 1}']
DAMAGES += [json.dumps({"seed": "00" * 32, "reserved": reserved}) for reserved in ("0", None, 1.5, -1, True)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_one_sentence_and_stays_as_it_is(damage, tmp_path):
    data = damage if isinstance(damage, bytes) else damage.encode()
    running = Masks(tmp_path)
    (tmp_path / "masks.json").write_bytes(data)
    for use in (lambda: Masks(tmp_path), lambda: running.spend(running.key(b"1"), 1)):
        with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))}: its masks.json is damaged: delete it") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert (tmp_path / "masks.json").read_bytes() == data


def test_a_ledger_that_was_deleted_during_a_run_ends_it(tmp_path):
    masks = Masks(tmp_path)
    (tmp_path / "masks.json").unlink()
    with pytest.raises(Interrupted):
        masks.spend(masks.key(b"1"), 1)
    assert not (tmp_path / "masks.json").exists()


def test_a_place_that_is_no_directory_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot keep hints in"):
        Masks(tmp_path / "file")
