"""What `packed` shows to the server, what it forgets, and whom it refuses."""

import copy
import gc
import math
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from private_lora.backends import load
from private_lora.backends.packed import exact as packed
from private_lora.crypto.bits import TiledBits
from private_lora.crypto.ring import transform

NAMES = ["packed", "packed_approx"]


def integers(seed, shape, bits=8):
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def parties(name="packed", inputs=40, outputs=7, bits=8):
    weight = integers(1, (inputs, outputs), bits)
    backend = load(name)
    plan = backend.plan(weight, bits)
    return backend, weight, backend.client(plan).prepare(weight), backend.server(plan, weight)


def reachable(root):
    """Everything reachable from `root` through attributes, containers and what the collector knows, but no code or modules."""
    seen, frontier = {}, [root]
    while frontier:
        item = frontier.pop()
        if id(item) in seen or isinstance(item, (type, type(gc))) or callable(item):
            continue
        seen[id(item)] = item
        frontier += [*gc.get_referents(item), *getattr(item, "__dict__", {}).values()]
    return list(seen.values())


def contents(root):
    """The bytes of every array, tensor and string of bytes among them."""
    for item in reachable(root):
        if isinstance(item, torch.Tensor):
            yield item.cpu().contiguous().view(torch.uint8).numpy().tobytes()
        elif isinstance(item, np.ndarray) and item.dtype != object:
            yield item.tobytes()
        elif isinstance(item, (bytes, bytearray)):
            yield bytes(item)


def holds(places, pattern):
    assert len(pattern) >= 16
    return any(pattern in place for place in places)


def patterns(client, x, keys):
    """What must not be seen: secrets, their spectra, message scales, and rows and columns of the inputs in several types."""
    for key in keys:
        spectra = transform(key.secrets)
        for array in (key.secrets, key.secrets.astype(np.float64), spectra, spectra[0, 5:], key.secrets[0, 100:]):
            # 32 coefficients: a few may all be zero, which is found anywhere.
            yield array.ravel()[:32].tobytes()
    for kind in (np.int8, np.int16, np.int32, np.int64, np.float32, np.float64):
        for row in x.astype(kind):
            yield row[:20].tobytes()
        for column in x.T.astype(kind):
            yield column[:20].tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [8, 16])
def test_neither_the_server_nor_any_message_holds_secrets_or_inputs(name, bits):
    _, weight, client, server = parties(name, bits=bits)
    x = integers(0, (50, 40), bits)
    question = client.encrypt(x)
    keys = list(client.keys.secret.values())
    answer = server.matmul(question)
    seen = [question.to_bytes(), answer.to_bytes(), *contents(question), *contents(server), *contents(answer)]
    secret = list(patterns(client, x, keys))
    assert not [pattern for pattern in secret if holds(seen, pattern)]
    # The search finds what is there.
    assert holds(seen, question.mask_seed)
    assert all(holds([*contents({"some": [keys, x.astype(np.int8), client]})], p) for p in (secret[0], keys[0].delta.tobytes()))
    assert not any(item is client or item is client.keys or item is keys[0] for item in reachable([server, question, answer]))
    products = x @ weight
    assert not holds(seen, products[:20, 0].tobytes())
    assert not holds(seen, np.ascontiguousarray(products[0, :7]).tobytes())


def residues(question):
    planes = question.bodies.astype(np.int64)
    return sum(planes[:, i] << (8 * i) for i in range(planes.shape[1])).ravel()


def assert_unrelated(first, second):
    assert first.mask_seed != second.mask_seed
    assert first.question_id != second.question_id
    # Of the lowest bytes, rounding prefers even ones; the highest may have fewer bits.
    a, b = first.bodies[:, 1:-1].ravel(), second.bodies[:, 1:-1].ravel()
    assert abs(np.mean(a == b) - 1 / 256) < 7 / math.sqrt(256 * a.size)
    assert abs(np.corrcoef(residues(first), residues(second))[0, 1]) < 7 / math.sqrt(residues(first).size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["random", "zero", "max"])
def test_two_encryptions_of_the_same_input_are_unrelated(name, kind):
    _, _, client, _ = parties(name)
    x = {"random": integers(0, (300, 40)), "zero": np.zeros((300, 40), int), "max": np.full((300, 40), 127)}[kind]
    assert_unrelated(client.encrypt(x), client.encrypt(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 127, -128])
def test_bodies_look_uniform_whatever_is_inside(name, value):
    _, _, client, _ = parties(name)
    question, p = client.encrypt(np.full((2100, 40), value)), client.parameters
    # Rounding halves to even makes even values likelier than odd ones, and nothing else: for every message alike.
    bias = 2.0**-p.dropped_bits if p.dropped_bits else 0.0
    for plane in range(p.body_planes):
        size = 2 ** min(8, p.upload_bits - 8 * plane)
        digits = question.bodies[:, plane].ravel() % size
        even = np.arange(size) % 2 == 0
        expected = np.where(even, 1 + bias, 1 - bias) if plane == 0 else np.ones(size)
        assert_distributed(np.bincount(digits, minlength=size), expected)
    for modulus in (3, 7, 251):
        # Q is no multiple of an odd modulus, but so large that its residues are uniform up to a part in a million.
        assert_distributed(np.bincount(residues(question) % modulus, minlength=modulus), np.ones(modulus))
    # Neighbouring rows, neighbouring columns, and columns of different tiles.
    body = residues(question).reshape(len(question.bodies), 2100, 32).astype(float)
    for a, b in ((body[:, 1:], body[:, :-1]), (body[..., 1:], body[..., :-1]), (body[0], body[1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 7 / math.sqrt(a.size)


def assert_distributed(counts, weights):
    """Chi-square far below what one time in 10^9 gives."""
    expected, freedom = counts.sum() * weights / weights.sum(), len(counts) - 1
    assert np.sum((counts - expected) ** 2 / expected) - freedom < 8 * math.sqrt(2 * freedom) + 25


@pytest.mark.parametrize("name", NAMES)
def test_seeds_of_numpy_torch_and_python_do_not_reach_ciphertexts(name):
    _, _, client, _ = parties(name)
    questions = []
    for _ in range(2):
        np.random.seed(0)
        random.seed(0)
        torch.manual_seed(0)
        questions.append(client.encrypt(integers(0, (300, 40))))
    assert_unrelated(*questions)


@pytest.mark.parametrize("name", NAMES)
def test_no_mask_secret_or_error_seed_occurs_twice_in_a_run(name, make_spec, tmp_path, monkeypatch):
    from private_lora.training.loop import train_step
    from private_lora.training.preparation import prepare

    seen, original = [], packed.encrypt_rows

    def recorded(x, delta, mask_seed, secrets, error_seed, parameters):
        seen.append((mask_seed, error_seed, [secret.tobytes() for secret in secrets]))
        return original(x, delta, mask_seed, secrets, error_seed, parameters)

    monkeypatch.setattr(packed, "encrypt_rows", recorded)
    run = prepare(make_spec(backend=name, steps=2, eval_examples=0), tmp_path)
    for _ in range(2):
        train_step(run)
    assert len(seen) > 10
    seeds = [seed for mask_seed, error_seed, _ in seen for seed in (mask_seed, error_seed)]
    secrets = [secret for *_, drawn in seen for secret in drawn]
    assert len(set(seeds)) == len(seeds) == 2 * len(seen)
    assert len(set(secrets)) == len(secrets) >= len(seen)
    assert {len(seed) for seed in seeds} == {32}


def test_rings_of_rows_under_one_mask_have_secrets_of_their_own():
    _, _, client, _ = parties()
    client.encrypt(np.zeros((2 * client.parameters.ring_size + 1, 40), int))
    (key,) = client.keys.secret.values()
    assert len(key.secrets) == len({row.tobytes() for row in key.secrets}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_forgotten_with_its_answer(name):
    _, _, client, server = parties(name)
    answer = server.matmul(client.encrypt(integers(0, (3, 40))))
    assert len(client.keys.secret) == 1
    client.decrypt(answer)
    assert not client.keys.secret
    for again in (client.decrypt, client.phases):
        with pytest.raises(ValueError, match="decrypted before"):
            again(answer)


@pytest.mark.parametrize("save", [pickle.dumps, copy.deepcopy, copy.copy])
def test_keys_and_what_holds_them_are_not_serialized(save):
    _, _, client, _ = parties()
    client.encrypt(integers(0, (3, 40)))
    for holder in (client.keys, *([client] if save is not copy.copy else [])):
        with pytest.raises(TypeError, match="secret keys are not serialized"):
            save(holder)


def test_messages_for_others_are_refused():
    _, _, client, server = parties()
    _, _, other_client, other_server = parties(inputs=41, outputs=8)
    x = integers(0, (3, 40))
    question = client.encrypt(x)
    answer = server.matmul(question)
    for wrong in (answer, x, other_client.encrypt(integers(0, (3, 41)))):
        with pytest.raises(ValueError, match="no question of rows of 40 values"):
            server.matmul(wrong)
    for wrong in (question, x, other_server.matmul(other_client.encrypt(integers(0, (3, 41))))):
        with pytest.raises(ValueError, match="no answer for a layer of 7 outputs"):
            client.decrypt(wrong)
    with pytest.raises(ValueError, match="another key"):
        client.decrypt(replace(answer, question_id=bytes(16)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [3, 2100])
def test_decrypting_rubbish_gives_integers_and_no_sign_of_it(name, rows):
    _, weight, client, server = parties(name)
    x = integers(0, (rows, 40))
    answer = server.matmul(client.encrypt(x))
    generator = np.random.default_rng(0)
    for filling in (generator.integers(0, 256, answer.body.data.shape), np.full(answer.body.data.shape, 255)):
        rubbish = TiledBits(filling.astype(np.uint8), answer.body.rows, answer.body.columns, answer.body.bits)
        y = client.decrypt(replace(answer, body=rubbish))
        assert (y.dtype, y.shape) == (np.int64, (rows, 7))
        assert (y != x @ weight).mean() > 0.9
        answer = server.matmul(client.encrypt(x))
