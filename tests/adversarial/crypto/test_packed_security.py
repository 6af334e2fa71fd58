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
from private_lora.backends.packed import session
from private_lora.backends.packed.messages import SessionQuestion
from private_lora.crypto import pads
from private_lora.crypto.bits import TiledBits
from private_lora.crypto.pads import SLOTS
from private_lora.crypto.ring import transform

NAMES = ["packed", "packed_approx"]
MASKS = ["session", "fresh"]


def integers(seed, shape, bits=8):
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def parties(mask, name="packed", inputs=40, outputs=7, bits=8):
    weight = integers(1, (inputs, outputs), bits)
    backend = load(name, mask=mask)
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


@pytest.fixture
def drawn(monkeypatch):
    """Every secret that a client has drawn since, B x N each time."""
    secrets, draw = [], packed.fresh_secrets

    def fresh_secrets(*arguments):
        drawn = draw(*arguments)
        secrets.append(drawn.copy())  # the client wipes its own
        return drawn

    for module in (packed, session):
        monkeypatch.setattr(module, "fresh_secrets", fresh_secrets)
    return secrets


def patterns(x, drawn):
    """What must not be seen: secrets, their spectra, and rows and columns of the inputs in several types."""
    for secrets in drawn:
        spectra, halves = transform(secrets), transform(secrets.reshape(-1, SLOTS))
        for array in (secrets, secrets.astype(np.float64), spectra, spectra[0, 5:], secrets[0, 100:], halves, halves[1, 5:]):
            # 32 coefficients: a few may all be zero, which is found anywhere.
            yield array.ravel()[:32].tobytes()
    for kind in (np.int8, np.int16, np.int32, np.int64, np.float32, np.float64):
        for row in x.astype(kind):
            yield row[:20].tobytes()
        for column in x.T.astype(kind):
            yield column[:20].tobytes()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [8, 16])
def test_neither_the_server_nor_any_message_holds_secrets_or_inputs(mask, name, bits, drawn):
    _, weight, client, server = parties(mask, name, bits=bits)
    x = integers(0, (50, 40), bits)
    question = client.encrypt(x)
    keys = list(client.keys.secret.values())
    client.get_ready(question)
    answer = server.matmul(question)
    seen = [question.to_bytes(), answer.to_bytes(), *contents(question), *contents(server), *contents(answer)]
    assert drawn
    secret, scale = list(patterns(x, drawn)), keys[0].delta if mask == "fresh" else keys[0].scale
    if mask == "session":
        (pad, slots), *_ = keys[0].slots
        secret += [phase[:5].tobytes() for phase in pad.phase(None, None)[slots]]
        secret += [part[:32].tobytes() for half in (pad.low, pad.high) for part in half[slots.stop : slots.stop + 5]]
    secret = [pattern for pattern in secret if any(pattern)]
    assert not [pattern for pattern in secret if holds(seen, pattern)]
    # The search finds what is there.
    assert holds(seen, question.mask_seed if mask == "fresh" else question.question_id)
    there = [*contents({"some": [keys, drawn, x.astype(np.int8), client]})]
    assert all(holds(there, p) for p in (secret[0], scale.tobytes()))
    assert not any(item is client or item is client.keys or item is keys[0] for item in reachable([server, question, answer]))
    products = x @ weight
    assert not holds(seen, products[:20, 0].tobytes())
    assert not holds(seen, np.ascontiguousarray(products[0, :7]).tobytes())


def byte_planes(question):
    """Of a question's body under either kind of mask: planes x T x K."""
    if isinstance(question, SessionQuestion):
        return question.digits
    tiles, planes, rows, lanes = question.bodies.shape
    return question.bodies.transpose(1, 2, 0, 3).reshape(planes, rows, tiles * lanes)


def residues(question):
    """T x K."""
    return sum(plane.astype(np.int64) << (8 * i) for i, plane in enumerate(byte_planes(question)))


def assert_unrelated(first, second):
    assert getattr(first, "mask_seed", 1) != getattr(second, "mask_seed", 2)
    assert first.question_id != second.question_id
    # Of the lowest bytes, rounding prefers even ones; the highest may have fewer bits.
    a, b = byte_planes(first)[1:-1].ravel(), byte_planes(second)[1:-1].ravel()
    assert abs(np.mean(a == b) - 1 / 256) < 7 / math.sqrt(256 * a.size)
    numbers = residues(first).ravel(), residues(second).ravel()
    assert abs(np.corrcoef(*numbers)[0, 1]) < 7 / math.sqrt(numbers[0].size)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["random", "zero", "max"])
def test_two_encryptions_of_the_same_input_are_unrelated(mask, name, kind):
    _, _, client, _ = parties(mask, name)
    x = {"random": integers(0, (300, 40)), "zero": np.zeros((300, 40), int), "max": np.full((300, 40), 127)}[kind]
    assert_unrelated(client.encrypt(x), client.encrypt(x))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 127, -128])
def test_bodies_look_uniform_whatever_is_inside(mask, name, value):
    _, _, client, _ = parties(mask, name)
    question, p = client.encrypt(np.full((2100, 40), value)), client.parameters
    # Rounding halves to even makes even values likelier than odd ones, and nothing else: for every message alike, as it is the
    # sum with the message that is rounded. Pads are rounded before, so there nothing may be likelier.
    bias = 2.0**-p.dropped_bits if p.dropped_bits and (mask, name) != ("session", "packed") else 0.0
    for plane in range(p.body_planes):
        size = 2 ** min(8, p.upload_bits - 8 * plane)
        digits = byte_planes(question)[plane].ravel() % size
        even = np.arange(size) % 2 == 0
        expected = np.where(even, 1 + bias, 1 - bias) if plane == 0 else np.ones(size)
        assert_distributed(np.bincount(digits, minlength=size), expected)
    for modulus in (3, 7, 251):
        # Q is no multiple of an odd modulus, but so large that its residues are uniform up to a part in a million.
        assert_distributed(np.bincount(residues(question).ravel() % modulus, minlength=modulus), np.ones(modulus))
    # Neighbouring rows, neighbouring columns, and columns of different tiles.
    body = residues(question).astype(float)
    for a, b in ((body[1:], body[:-1]), (body[:, 1:], body[:, :-1]), (body[:, :8], body[:, 32:40])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 7 / math.sqrt(a.size)


def assert_distributed(counts, weights):
    """Chi-square far below what one time in 10^9 gives."""
    expected, freedom = counts.sum() * weights / weights.sum(), len(counts) - 1
    assert np.sum((counts - expected) ** 2 / expected) - freedom < 8 * math.sqrt(2 * freedom) + 25


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_seeds_of_numpy_torch_and_python_do_not_reach_ciphertexts(mask, name):
    _, _, client, _ = parties(mask, name)
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
        seen.append((mask_seed, bytes(error_seed), [secret.tobytes() for secret in secrets]))
        return original(x, delta, mask_seed, secrets, error_seed, parameters)

    monkeypatch.setattr(packed, "encrypt_rows", recorded)
    run = prepare(make_spec(backend=name, backend_options={"mask": "fresh"}, steps=2, eval_examples=0), tmp_path)
    for _ in range(2):
        train_step(run)
    assert len(seen) > 10
    seeds = [seed for mask_seed, error_seed, _ in seen for seed in (mask_seed, error_seed)]
    secrets = [secret for *_, drawn in seen for secret in drawn]
    assert len(set(seeds)) == len(seeds) == 2 * len(seen)
    assert len(set(secrets)) == len(secrets) >= len(seen)
    assert {len(seed) for seed in seeds} == {32}


@pytest.mark.parametrize("name", NAMES)
def test_no_pair_of_mask_and_secret_and_no_error_seed_occurs_twice_in_a_session(name, make_spec, tmp_path, monkeypatch, drawn):
    from private_lora.training.loop import train_step
    from private_lora.training.preparation import prepare

    masks, seeds, make, draw = set(), [], pads.Pad.__init__, pads.fresh_seed

    def recorded(self, mask_key, inputs, secrets, parameters):
        masks.add(mask_key)
        make(self, mask_key, inputs, secrets, parameters)

    def fresh_seed():
        seed = draw()
        seeds.append(bytes(seed))
        return seed

    monkeypatch.setattr(pads.Pad, "__init__", recorded)
    monkeypatch.setattr(pads, "fresh_seed", fresh_seed)
    run = prepare(make_spec(backend=name, steps=2, eval_examples=0), tmp_path)
    for _ in range(2):
        train_step(run)
    (keys,) = {id(product.client.keys): product.client.keys for product in run.session.products}.values()
    secrets = [secret.tobytes() for some in drawn for secret in some]
    assert len(set(secrets)) == len(secrets) == sum(keys.masks._used.values()) > 10
    assert len(set(seeds)) == len(seeds) == len(drawn)
    # One seed for all layers, a mask for each.
    assert masks == set(keys.masks._used)
    assert 10 < len(masks) <= len(run.session.products)


@pytest.mark.parametrize(("mask", "size"), [("fresh", 2048), ("session", SLOTS)])
def test_rings_of_rows_under_one_mask_have_secrets_of_their_own(mask, size, drawn):
    _, _, client, _ = parties(mask)
    assert client.parameters.ring_size == 2048
    client.encrypt(np.zeros((2 * size + 1, 40), int))
    (secrets,) = drawn
    assert len(secrets) == len({row.tobytes() for row in secrets}) == 3


def test_the_lowest_bit_of_a_session_does_not_show_the_parity_of_a_message():
    backend = load("packed")
    plans = ((backend.plan(weight, 8), weight) for weight in (integers(seed, (40, 7)) for seed in range(99)))
    # With an odd scale, the parity of what is added is that of the message; with few dropped bits, halves are frequent.
    plan, weight = next((p, w) for p, w in plans if p.parameters["delta"] >> p.parameters["dropped_bits"] & 1)
    assert 0 < plan.parameters["dropped_bits"] < 6
    client = backend.client(plan).prepare(weight)
    for value in (0, 1):
        lowest = client.encrypt(np.full((8192, 40), value)).digits[0] & 1
        assert abs(lowest.mean() - 0.5) < 2.5 / math.sqrt(lowest.size)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_forgotten_with_its_answer(mask, name):
    _, _, client, server = parties(mask, name)
    answer = server.matmul(client.encrypt(integers(0, (3, 40))))
    assert len(client.keys.secret) == 1
    client.decrypt(answer)
    assert not client.keys.secret
    for again in (client.decrypt, client.phases):
        with pytest.raises(ValueError, match="decrypted before"):
            again(answer)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("save", [pickle.dumps, copy.deepcopy, copy.copy])
def test_keys_and_what_holds_them_are_not_serialized(mask, save):
    _, _, client, _ = parties(mask)
    client.encrypt(integers(0, (3, 40)))
    (key,) = client.keys.secret.values()
    for holder in (client.keys, key, *([client] if save is not copy.copy else [])):
        with pytest.raises(TypeError, match="secret keys are not serialized"):
            save(holder)
    if mask == "session":
        with pytest.raises(TypeError, match="pads are not serialized"):
            save(key.slots[0][0])


@pytest.mark.parametrize("mask", MASKS)
def test_messages_for_others_are_refused(mask):
    _, _, client, server = parties(mask)
    _, _, other_client, other_server = parties(mask, inputs=41, outputs=8)
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


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [3, 2100])
def test_decrypting_rubbish_gives_integers_and_no_sign_of_it(mask, name, rows):
    _, weight, client, server = parties(mask, name)
    x = integers(0, (rows, 40))
    answer = server.matmul(client.encrypt(x))
    generator = np.random.default_rng(0)
    for filling in (generator.integers(0, 256, answer.body.data.shape), np.full(answer.body.data.shape, 255)):
        rubbish = TiledBits(filling.astype(np.uint8), answer.body.rows, answer.body.columns, answer.body.bits)
        y = client.decrypt(replace(answer, body=rubbish))
        assert (y.dtype, y.shape) == (np.int64, (rows, 7))
        assert (y != x @ weight).mean() > 0.9
        answer = server.matmul(client.encrypt(x))
