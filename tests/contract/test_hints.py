"""Hints that are kept: used again by the next run, never when damaged or another's, refused where they do not fit."""

import shutil

import numpy as np
import pytest

from private_lora.backends import load
from private_lora.backends.packed import hints
from private_lora.backends.packed.exact import PackedKeys
from private_lora.core.errors import Interrupted, UserError

X = np.random.default_rng(0).integers(-128, 128, (9, 40))


def weight_of(number=1, shape=(40, 70), bits=8):
    return np.random.default_rng(number).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def client_of(directory, weight, bits=8, **options):
    backend = load("packed", **options)
    plan = backend.plan(weight, bits)
    client = backend.client(plan, PackedKeys(directory))
    return client, lambda: client.prepare(weight), backend.server(plan, weight)


def assert_right(client, server, weight):
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(X))), X @ weight)


def run(directory, weight, **options):
    """The number of hints that a run has made; its answer is right."""
    client, prepare, server = client_of(directory, weight, **options)
    prepare()
    assert_right(client, server, weight)
    return client.keys.hints.made


def test_the_next_run_makes_none(tmp_path):
    weight = weight_of()
    assert [run(tmp_path, weight) for _ in range(3)] == [1, 0, 0]
    (path,) = tmp_path.glob("*.hint")
    client, prepare, _ = client_of(tmp_path, weight)
    prepare()
    assert client.keys.hints.bytes < path.stat().st_size < client.keys.hints.bytes + 1000
    assert run(None, weight) == 1


@pytest.mark.parametrize("other", ["weight", "bits of activations", "security", "seed"])
def test_what_a_hint_belongs_to_is_in_its_name(other, tmp_path):
    weight = weight_of()
    assert run(tmp_path, weight) == 1
    if other == "weight":
        weight[3, 4] ^= 1
    if other == "seed":
        (tmp_path / "masks.json").unlink()
    kept = {path: path.read_bytes() for path in tmp_path.glob("*.hint")}
    changed = {"bits of activations": {"bits": 12}, "security": {"security": "chaloy21_quantum"}}.get(other, {})
    assert run(tmp_path, weight, **changed) == 1
    there = set(tmp_path.glob("*.hint"))
    if other == "seed":
        assert len(there) == 1 and not there & set(kept)  # nobody can use those of a seed that is gone
    else:
        assert len(there) == 2 and all(path.read_bytes() == data for path, data in kept.items())


@pytest.mark.parametrize("tile", [0, 1, 2])
def test_a_damaged_tile_is_noticed_before_any_wrong_answer(tile, tmp_path):
    weight = weight_of()
    run(tmp_path, weight)
    (path,) = tmp_path.glob("*.hint")
    data = bytearray(path.read_bytes())
    client, prepare, server = client_of(tmp_path, weight)
    size = client_of(None, weight)[1]()._hint.nbytes
    data[len(data) - size + tile * size // 3 + 5] ^= 16
    path.write_bytes(data)
    prepare()
    assert client.keys.hints.made == 0  # tiles are looked at when they are first used
    answer = server.matmul(client.encrypt(X))
    with pytest.raises(Interrupted, match="was damaged and is deleted: run again") as caught:
        client.decrypt(answer)
    assert "\n" not in str(caught.value)
    assert not path.exists()
    assert run(tmp_path, weight) == 1


@pytest.mark.parametrize("damage", ["cut short", "longer", "empty", "foreign", "another's", "no header", "no digests"])
def test_files_that_are_no_such_hint_are_made_anew(damage, tmp_path):
    weight = weight_of()
    run(tmp_path, weight)
    (path,) = tmp_path.glob("*.hint")
    data = path.read_bytes()
    if damage == "another's":
        (tmp_path / "other").mkdir()
        run(tmp_path / "other", weight)
        shutil.copy(next((tmp_path / "other").glob("*.hint")), path)
    else:
        path.write_bytes({
            "cut short": data[:-1],
            "longer": data + b"\0",
            "empty": b"",
            "foreign": b"GIF89a" + data[6:],
            "no header": data[:25],
            "no digests": data.replace(b'"digests"', b'"digestz"'),
        }[damage])  # fmt: skip
    assert run(tmp_path, weight) == 1
    assert path.read_bytes() == data
    assert run(tmp_path, weight) == 0


def test_a_hint_that_has_no_room_on_disk_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(hints.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    client, prepare, _ = client_of(tmp_path, weight_of())
    with pytest.raises(UserError, match=r"does not fit the .* GB that are free at .*: make room.*mask: fresh") as caught:
        prepare()
    assert "\n" not in str(caught.value)
    assert client.keys.hints.made == 0 and not list(tmp_path.glob("*.hint"))


def test_hints_that_memory_does_not_hold_are_refused_before_they_are_made(monkeypatch):
    client, prepare, _ = client_of(None, weight_of())
    size = client_of(None, weight_of())[1]()._hint.nbytes
    monkeypatch.setattr(hints, "physical_memory_bytes", lambda: 2 * size + 1)
    prepare()
    with pytest.raises(UserError, match=r"this machine's memory: keep them on disk \(--hints DIR\).*mask: fresh") as caught:
        client.prepare(weight_of())  # one fits, two do not
    assert "\n" not in str(caught.value)
    assert client.keys.hints.made == 1


def test_a_question_before_the_weight_was_seen_is_refused():
    client, _, _ = client_of(None, weight_of())
    with pytest.raises(ValueError, match=r"call prepare\(weight\)"):
        client.encrypt(X)
