"""The package and the scheme as docs/wire.md has it: each opens what the other encrypted, at shapes that fill no tile."""

from dataclasses import replace

import numpy as np
import pytest
import scheme
from scheme import Parameters

from private_lora.backends import load
from private_lora.backends.packed import exact, session
from private_lora.crypto import rlwe

MASKS = ["session", "fresh"]
# Rows, inputs, outputs: less than a tile; no multiple of 32, and more rows than one secret has slots.
SHAPES = {"session": [(3, 5, 2), (1100, 70, 33)], "fresh": [(3, 5, 2), (2100, 35, 33)]}
CASES = [(mask, bits, *shape) for mask in MASKS for bits in (8, 12) for shape in SHAPES[mask][: 1 if bits == 12 else 2]]


def integers(seed, shape, bits):
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


class Parties:
    """Both sides of the package for one weight, and the parameters of the plan as the page's scheme reads them."""

    def __init__(self, mask, bits, inputs, outputs, name="packed"):
        self.weight, self.backend = integers(1, (inputs, outputs), bits), load(name, mask=mask)
        self.plan = self.backend.plan(self.weight, bits)
        self.client = self.backend.client(self.plan).prepare(self.weight)
        self.server = self.backend.server(self.plan, self.weight)
        self.p = Parameters.of_plan(self.plan.parameters)
        # Weights of more than 8 bits are two digits side by side: low, in [-128, 127], and high.
        low = (self.weight & 255) - 128
        self.digits = self.weight if bits <= 8 else np.concatenate([low, self.weight >> 8], axis=1)

    def answered(self, question: bytes) -> bytes:
        return self.server.matmul(self.backend.ciphertext_from_bytes(question)).to_bytes()

    def joined(self, y, x):
        """The product with the weight from that with its digits."""
        if self.digits is self.weight:
            return y
        low, high = np.split(y, 2, axis=1)
        return low + 256 * high + 128 * x.sum(axis=1, keepdims=True)


@pytest.fixture
def drawn(monkeypatch):
    """Secrets that the package's client has drawn, B x N each time."""
    secrets, draw = [], rlwe.fresh_secrets

    def fresh_secrets(*arguments):
        secrets.append(np.array(draw(*arguments)))
        return secrets[-1].copy()

    for module in (exact, session):
        monkeypatch.setattr(module, "fresh_secrets", fresh_secrets)
    return secrets


@pytest.mark.parametrize(("mask", "bits", "rows", "inputs", "outputs"), CASES)
def test_the_page_s_scheme_opens_what_the_package_encrypted(mask, bits, rows, inputs, outputs, drawn):
    parties, x = Parties(mask, bits, inputs, outputs), integers(0, (rows, inputs), bits)
    question = parties.client.encrypt(x).to_bytes()
    count = 5 if mask == "session" else 8
    question_id, numbers, payload = scheme.unpack(question, count)
    assert numbers[1:3] == (rows, inputs)
    key = parties.client._mask_key if mask == "session" else payload[:32]
    hint = scheme.hint(scheme.mask(key, inputs, parties.p), parties.digits, parties.p) if mask == "session" else None
    answer = parties.answered(question)
    y = scheme.open_answer(
        answer, question_id, drawn[0].astype(object), [parties.p.delta] * rows, parties.digits.shape[1], parties.p, hint
    )
    np.testing.assert_array_equal(parties.joined(y, x), x @ parties.weight)


@pytest.mark.parametrize(("mask", "bits", "rows", "inputs", "outputs"), CASES)
def test_the_package_s_worker_multiplies_what_the_page_s_scheme_encrypted(mask, bits, rows, inputs, outputs):
    parties, x = Parties(mask, bits, inputs, outputs), integers(0, (rows, inputs), bits)
    p, random = parties.p, np.random.default_rng(5)
    secrets = random.integers(-1, 2, (-(-rows // p.slots), p.ring_size)).astype(object)
    key, question_id = bytes(range(32)), bytes(range(16))
    a = scheme.mask(key, inputs, p)
    errors = np.rint(random.normal(0, 3.2, x.shape)).astype(int)
    residues = scheme.encrypt(p.delta * x, scheme.times_secrets(a, secrets, rows, p), errors, p)
    if mask == "session":
        question, hint = scheme.session_question(question_id, residues, p), scheme.hint(a, parties.digits, p)
    else:
        question, hint = scheme.fresh_question(question_id, key, residues, inputs, p), None
    parsed = parties.backend.ciphertext_from_bytes(question)
    assert parsed.to_bytes() == question
    answer = parties.server.matmul(parsed).to_bytes()
    y = scheme.open_answer(answer, question_id, secrets, [p.delta] * rows, parties.digits.shape[1], p, hint)
    np.testing.assert_array_equal(parties.joined(y, x), x @ parties.weight)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_products_of_large_integers_are_schoolbook_products(size):
    random = np.random.default_rng(size)
    a, b = ([int(v) for v in random.integers(0, 2**44, size)] for _ in range(2))
    total = [0] * size
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            total[(i + j) % size] += x * y if i + j < size else -x * y
    assert scheme.negacyclic(a, b, 44) == [value % 2**44 for value in total]


def test_an_answer_to_another_question_or_a_damaged_one_is_refused():
    p = replace(Parameters(1024, 20, 4, 0, 20, 20, 1024), slots=512)
    data = scheme.pack((scheme.SESSION_ANSWER, 1, 1, 20, 20), bytes(16), bytes(scheme.matrix_bytes(1, 1, 20)))
    for answer, question_id in ((data, b"x" * 16), (data[:-1] + b"x", bytes(16)), (data[:-1], bytes(16))):
        with pytest.raises(ValueError):
            scheme.open_answer(answer, question_id, np.zeros((1, 1024), object), [4], 1, p, np.zeros((1024, 1), object))
