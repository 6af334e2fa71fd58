"""The vectors of docs/wire.md: the page's scheme wrote them, and the package gives the same bytes, answers and plaintexts.

Secrets, errors and keys reach the package's arithmetic from the vector: only tests do that, and no option of a run does.
"""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import scheme
import vectors
from answers import one_thread

from private_lora.backends import load
from private_lora.backends.packed import hints
from private_lora.backends.packed.exact import parameters_of
from private_lora.backends.packed.masks import Masks
from private_lora.backends.packed.messages import PackedQuestion, SessionQuestion, message_from_bytes
from private_lora.crypto import pads, rlwe
from private_lora.crypto.sampling import Stream, gaussian_errors, ternary_secret

KINDS = list(vectors.KINDS)


def known(name: str):
    return json.loads((vectors.HERE / name).read_text())


def data_of(kind: str, name: str) -> bytes:
    return (vectors.HERE / f"{kind}_{name}.bin").read_bytes()


class Vector:
    """A vector as arrays, with the package's plan and worker for its weight and parameters."""

    def __init__(self, kind):
        self.given = known(f"{kind}.json")
        self.x, self.weight = (np.array(self.given[name], np.int8) for name in ("x", "weight"))
        self.secrets, self.scales = np.array(self.given["secrets"], np.int8), np.array(self.given["scales"])
        self.question_id, self.key = (bytes.fromhex(self.given[name]) for name in ("question_id", "mask_key"))
        self.is_session = kind.startswith("session")
        backend = load("packed" if kind.endswith("exact") else "packed_approx", mask=kind.split("_")[0])
        plan = backend.plan(self.weight, vectors.BITS)
        numbers = {name: value for name, value in self.given["parameters"].items() if name != "slots"}
        self.plan = replace(plan, parameters=plan.parameters | numbers)
        self.p, self.server = parameters_of(self.plan), backend.server(self.plan, self.weight)


@pytest.fixture
def errors_of(monkeypatch):
    """Makes the package's arithmetic use a vector's errors and coins, tile by tile; rows that it does not have get zeros."""

    def use(vector):
        errors = np.array(vector.given["errors"], np.int8)
        tiles = iter(errors.reshape(len(errors), -1, scheme.LANES).transpose(1, 0, 2))

        def errors_in_turn(stream, count):
            if not vector.is_session:  # all tiles of a group at once
                return np.concatenate([tile.ravel() for tile in tiles])
            padded = np.zeros((count // scheme.LANES, scheme.LANES), np.int8)
            padded[: len(errors)] = next(tiles)
            return padded.ravel()

        def coins_of(error_seed, tile, slots):
            coins = np.array(vector.given["coins"], np.uint32)[:, tile * scheme.LANES : (tile + 1) * scheme.LANES]
            return np.append(coins @ (1 << np.arange(scheme.LANES, dtype=np.uint32)), np.zeros(slots - len(coins), np.uint32))

        for module in (rlwe, pads):
            monkeypatch.setattr(module, "gaussian_errors", errors_in_turn)
        monkeypatch.setattr(pads, "rounding_coins", coins_of)

    with one_thread():
        yield use


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_s_scheme_writes_the_vectors(kind):
    vector, files = vectors.computed(kind)
    digests = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    assert json.loads(json.dumps(vector | {"files": digests})) == known(f"{kind}.json")
    for name, data in files.items():
        assert (vectors.HERE / f"{name}.bin").read_bytes() == data


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_encrypts_to_the_question(kind, errors_of):
    v = Vector(kind)
    errors_of(v)
    if v.is_session:
        pad, out = pads.Pad(v.key, v.plan.inputs, v.secrets, v.p), np.empty((v.p.body_planes, *v.x.shape), np.int8)
        pads.encrypt_slots(v.x, v.scales, pad, pad.take(len(v.x)), v.p, out)
        question = SessionQuestion(v.question_id, v.p.sent, out)
    else:
        bodies = rlwe.encrypt_rows(v.x, v.scales, v.key, v.secrets, bytes(32), v.p)
        question = PackedQuestion(v.question_id, v.key, v.plan.inputs, v.p.sent, bodies)
    assert question.to_bytes() == data_of(kind, "question")


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_s_worker_gives_the_answer(kind):
    v = Vector(kind)
    assert v.server.matmul(message_from_bytes(data_of(kind, "question"))).to_bytes() == data_of(kind, "answer")


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_decrypts_the_plaintext(kind):
    v = Vector(kind)
    answer = message_from_bytes(data_of(kind, "answer"))
    if v.is_session:
        data = hints.compute(v.weight, v.key, v.p).data
        assert data.tobytes() == data_of(kind, "hint")
        pad = pads.Pad(v.key, v.plan.inputs, v.secrets, v.p)
        phase = pad.phase(hints.Hint(data, v.plan.outputs), v.p)[pad.take(len(v.x))]
        y = pads.decrypt_slots(answer.body, phase, v.scales, v.p)
    else:
        y = rlwe.decrypt_rows(answer.mask, answer.body, v.scales, v.secrets, v.p)
    assert y.tolist() == v.given["plaintext"]
    if kind.endswith("exact"):
        np.testing.assert_array_equal(y, v.x.astype(int) @ v.weight.astype(int))


def test_masks_are_derived_and_expanded_as_the_page_says():
    found, expected = vectors.masks(), known("masks.json")
    assert found == expected
    derived, masks = expected["derived"], Masks()
    masks.seed = bytes.fromhex(derived["seed"])
    v = Vector("session_exact")
    assert hints.product_identity(v.weight, v.p).hex() == derived["identity"]
    assert masks.key(bytes.fromhex(derived["identity"])).hex() == derived["mask_key"]
    for entry in expected["expanded"]:
        tiles = _tiles(bytes.fromhex(expected["mask_key"]), entry)
        values = sum(tiles[:, i].astype(np.int64) << (8 * i) for i in range(tiles.shape[1])) & (2 ** entry["log2_q"] - 1)
        matrix = values.transpose(1, 0, 2).reshape(entry["ring_size"], -1)[:, : entry["columns"]].astype("<u8")
        assert hashlib.sha256(matrix.tobytes()).hexdigest() == entry["sha256_of_uint64"]


def _tiles(key: bytes, entry: dict) -> np.ndarray:
    """The package's masks of an entry of masks.json, tiles x planes x N x LANES."""
    planes, count = -(-entry["log2_q"] // 8), -(-entry["columns"] // scheme.LANES)
    tiles = np.empty((count, planes, entry["ring_size"], scheme.LANES), np.int8)
    rlwe.fill_mask_tiles(key, entry["log2_q"], 0, tiles)
    return tiles


def sampled() -> dict:
    """First values and digests of the secret and error samplers on known streams. Neither is on the wire."""
    secret, errors = ternary_secret(Stream(vectors.KEY), 2048), gaussian_errors(Stream(vectors.SEED), 4096)
    return {
        name: {
            "seed": seed.hex(),
            "first": values[:32].tolist(),
            "sha256": hashlib.sha256(np.int8(values).tobytes()).hexdigest(),
        }
        for name, seed, values in (("ternary", vectors.KEY, secret), ("gaussian", vectors.SEED, errors))
    }


def test_samplers_give_the_known_values():
    """Written by `vectors.write("sampler.json", test_vectors.sampled())`: again where a sampler is meant to change."""
    assert sampled() == known("sampler.json")
