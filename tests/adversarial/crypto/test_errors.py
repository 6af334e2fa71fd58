"""What hides a message is the error of every sample: tests that notice when one is missing, small, or used twice.

A body without errors looks as uniform as one with them, so looking at ciphertexts is not enough. Who knows the secret can take
A s and the message off, and an attacker who does not can solve for the secret: both are done here, by the arithmetic of
tests/independent. Each test is also run on code that was made wrong on purpose, and must fail there.
"""

from dataclasses import replace

import numpy as np
import pytest
import scheme
from answers import one_thread

from private_lora.backends import load
from private_lora.backends.packed import exact, session
from private_lora.crypto import pads, rlwe
from private_lora.crypto.parameters import ERROR_STD

MASKS = ["session", "fresh"]
NAMES = ["packed", "packed_approx"]
COLUMNS = 33  # of two tiles
TAIL = 60


def client_of(mask, name="packed", **changed):
    """A client for a small weight, its plan's parameters changed: `dropped_bits` 0 shows errors as they are."""
    weight = np.random.default_rng(1).integers(-128, 128, (COLUMNS, 2))
    backend = load(name, mask=mask)
    plan = backend.plan(weight, 8)
    plan = replace(plan, parameters=plan.parameters | changed)
    return backend.client(plan).prepare(weight)


class Sampled:
    """Rows encrypted by the package, and what they are without secret and message.

    noise: body minus A s minus message, T x K, centred. batches: slices of rows that have a secret each.
    """

    def __init__(self, mask, monkeypatch, name="packed", zeros=False, **changed):
        client, drawn = client_of(mask, name, **changed), []
        for module in (exact, session):
            monkeypatch.setattr(
                module, "fresh_secrets", lambda *a: drawn.append(np.array(rlwe.fresh_secrets(*a))) or drawn[-1].copy()
            )
        p = scheme.Parameters.of_plan(vars(client.parameters) | {"mask": mask})
        rows = 2 * p.slots
        x = np.random.default_rng(2).integers(-128, 128, (rows, COLUMNS)) * (not zeros)
        # The scale of a row is a secret of the client's until its answer is opened.
        scale = client.scales(x.astype(np.int16))
        question = client.encrypt(x)
        key = client._mask_key if mask == "session" else question.mask_seed
        (secrets,) = drawn
        self.p = p
        self.batches = [slice(first, first + p.slots) for first in range(0, rows, p.slots)]
        self.a, self.b = scheme.mask(key, COLUMNS, p), question.residues[0].astype(object)
        masked = scheme.times_secrets(self.a, secrets.astype(object), rows, p)
        message = np.rint(scale[:, None] * x).astype(np.int64)
        noise = ((self.b << p.dropped_bits) - masked - message + 2 ** (p.log2_q - 1)) % 2**p.log2_q - 2 ** (p.log2_q - 1)
        self.noise, self.masked, self.secrets = noise.astype(np.int64), masked, secrets


def expected_noise(dropped: int) -> dict[int, float]:
    """Probabilities of a discrete Gaussian error plus what rounding to multiples of 2^dropped adds to uniform values."""
    half = 2**dropped // 2
    errors = {e: np.exp(-(e**2) / (2 * ERROR_STD**2)) for e in range(-TAIL // 2, TAIL // 2 + 1)}
    total, found = sum(errors.values()), {}
    for e, weight in errors.items():
        for r in range(-half, half + 1) if dropped else [0]:
            share = (0.5 if dropped and abs(r) == half else 1) / 2**dropped
            found[e + r] = found.get(e + r, 0) + weight / total * share
    return found


def assert_noise(values: np.ndarray, dropped: int) -> None:
    """Chi-square of the noise far below what one time in 10^9 gives; cells are single values where errors alone decide."""
    expected = expected_noise(dropped)
    decided = [v for v in expected if not dropped or abs(v) > 2**dropped // 2 - 4]
    cells = {v: expected[v] * values.size for v in decided if expected[v] * values.size >= 10}
    counts = np.array([*(np.count_nonzero(values == v) for v in cells), 0])
    weights = np.array([*cells.values(), 0])
    counts[-1], weights[-1] = values.size - counts.sum(), max(1e-9, values.size - weights.sum())
    freedom = len(cells)
    assert np.sum((counts - weights) ** 2 / weights) - freedom < 8 * np.sqrt(2 * freedom) + 25
    variance = sum(p * v**2 for v, p in expected.items())
    fourth = sum(p * v**4 for v, p in expected.items())
    assert abs(np.mean(values.astype(float) ** 2) - variance) < 6 * np.sqrt((fourth - variance**2) / values.size)
    assert np.abs(values).max() <= 2**dropped // 2 + 10 * ERROR_STD


def assert_unrelated(first: np.ndarray, second: np.ndarray) -> None:
    """No correlation between two matrices of the same shape."""
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 6 / np.sqrt(first.size)


def assert_hidden(sampled: Sampled) -> None:
    """Every batch and every tile has Gaussian errors of its own."""
    noise, first, second = sampled.noise, *sampled.batches[:2]
    for batch in sampled.batches:
        for tile in (slice(0, 32), slice(32, COLUMNS)):
            assert_noise(noise[batch, tile], sampled.p.dropped_bits)
    assert_unrelated(noise[first], noise[second])
    assert_unrelated(noise[:, :1], noise[:, 32:33])
    assert_unrelated(noise[:, 1:], noise[:, :-1])
    assert_unrelated(noise[1:], noise[:-1])


@pytest.mark.parametrize("mask", MASKS)
def test_every_sample_has_a_gaussian_error_of_its_own(mask, monkeypatch):
    assert_hidden(Sampled(mask, monkeypatch, dropped_bits=0))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_errors_are_there_under_the_parameters_of_a_plan(mask, name, monkeypatch):
    assert_hidden(Sampled(mask, monkeypatch, name))


def test_which_way_a_half_is_rounded_says_nothing_of_the_error(monkeypatch):
    """Otherwise the body were no function of A s + e, and the proof, in which that is a uniform number, would not cover it."""
    drawn, real = [], pads.gaussian_errors
    monkeypatch.setattr(pads, "gaussian_errors", lambda *a: drawn.append(np.array(real(*a))) or drawn[-1].copy())
    with one_thread():
        sampled = Sampled("session", monkeypatch, dropped_bits=2)
    errors = np.concatenate([tile.reshape(-1, 32) for tile in drawn], axis=1)[:, :COLUMNS]
    rounding = sampled.noise - errors
    halves = np.abs(rounding) == 2
    for of_error in (errors % 2 == 0, errors > 0):
        agree = (rounding > 0)[halves] == of_error[halves]
        assert abs(agree.mean() - 0.5) < 5 / (2 * np.sqrt(agree.size))
    assert abs((rounding > 0)[halves].mean() - 0.5) < 5 / (2 * np.sqrt(halves.sum()))


def spoilt(change):
    """A sampler whose errors `change` alters."""
    real = rlwe.gaussian_errors
    return lambda stream, count: np.array(change(np.array(real(stream, count))), np.int8)


def only_in_first_half(errors):
    errors[len(errors) // 2 :] = 0
    return errors


SPOILT = {
    "zero": lambda errors: 0 * errors,
    "half": lambda errors: np.rint(errors / 2),
    "a fifth too small": lambda errors: np.rint(errors * 0.8),
    "of one sign": lambda errors: np.abs(errors),
    "uniform": lambda errors: np.random.default_rng(0).integers(-5, 6, errors.size),
    "missing in half of a tile": only_in_first_half,
    "one for all": lambda errors: np.full_like(errors, errors[0]),
    "the same in both halves": lambda errors: np.tile(errors[: len(errors) // 2], 2),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", SPOILT)
def test_wrong_errors_are_noticed(mask, kind, monkeypatch):
    for module in (rlwe, pads):
        monkeypatch.setattr(module, "gaussian_errors", spoilt(SPOILT[kind]))
    sampled = Sampled(mask, monkeypatch, dropped_bits=0)
    with pytest.raises(AssertionError):
        assert_hidden(sampled)


@pytest.mark.parametrize("mask", MASKS)
def test_missing_errors_are_noticed_under_the_parameters_of_a_plan(mask, monkeypatch):
    for module in (rlwe, pads):
        monkeypatch.setattr(module, "gaussian_errors", spoilt(SPOILT["zero"]))
    for name in NAMES:
        sampled = Sampled(mask, monkeypatch, name)
        with pytest.raises(AssertionError):
            assert_hidden(sampled)


class Ring:
    """Z_Q[x]/(x^n + 1) with n and Q powers of two: a polynomial is a unit if the sum of its coefficients is odd."""

    def __init__(self, size: int, log2_q: int):
        self.size, self.log2_q = size, log2_q

    def times(self, a, b):
        return np.array(scheme.negacyclic(list(a), list(b), self.log2_q), object)

    def inverse(self, a):
        """Over GF(2) a^n = 1, so a^(n-1) inverts a unit modulo 2; Newton's steps double the bits."""
        found, power, one = None, a % 2, np.array([1] + [0] * (self.size - 1), object)
        for _ in range(self.size.bit_length() - 1):
            found = power if found is None else self.times(found, power) % 2
            power = self.times(power, power) % 2
        bits = 1
        while bits < self.log2_q:
            found, bits = self.times(found, 2 * one - self.times(a, found)), 2 * bits
        return found

    def solve(self, rows):
        """s of A s = b, from rows [a_1 .. a_r, b] of polynomials, many more of them than unknowns, by elimination."""
        rank, pivots = len(rows[0]) - 1, []
        for row in rows:
            for i, pivot in enumerate(pivots):
                row = [x - self.times(row[i], y) for x, y in zip(row, pivot, strict=True)]
            if len(pivots) < rank and sum(row[len(pivots)]) % 2:
                unit = self.inverse(row[len(pivots)] % 2**self.log2_q)
                pivots.append([self.times(unit, entry) for entry in row])
            if len(pivots) == rank:
                break
        found = {}
        for i in reversed(range(rank)):
            found[i] = (pivots[i][-1] - sum(self.times(pivots[i][j], found[j]) for j in found)) % 2**self.log2_q
        return [found[i] for i in range(rank)]


def attacked(sampled: Sampled) -> np.ndarray:
    """What an attacker who knows that rows are zeros takes for the first secret: the solution of b = A s, N residues."""
    p = sampled.p
    ring, natural = Ring(p.slots, p.log2_q), np.argsort(scheme.exponents(p.slots))
    rows = []
    for column in range(COLUMNS):
        polynomials = [sampled.a[first : first + p.slots, column] for first in range(0, p.ring_size, p.slots)]
        rows.append([q[natural] for q in [*polynomials, sampled.b[: p.slots, column]]])
    found = [s[scheme.exponents(p.slots)] for s in ring.solve(rows)]
    return (np.concatenate(found) + 1) % 2**p.log2_q - 1


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("has_errors", [False, True])
def test_linear_algebra_finds_the_secret_without_errors_and_not_with_them(mask, has_errors, monkeypatch):
    if not has_errors:
        for module in (rlwe, pads):
            monkeypatch.setattr(module, "gaussian_errors", spoilt(SPOILT["zero"]))
    sampled = Sampled(mask, monkeypatch, dropped_bits=0, zeros=True)
    found = attacked(sampled)
    assert np.array_equal(found, sampled.secrets[0]) != has_errors
    assert np.isin(found, (-1, 0, 1)).mean() < 0.01 or not has_errors
