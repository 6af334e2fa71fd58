"""The check of approximate answers: right ones pass, their error is the plan's, and what passes of wrong ones is bounded."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from liars import address_of, asked_of, lying

from private_lora.backends import load
from private_lora.network.client import approximate
from private_lora.network.client.approximate import LARGEST_ENTRY, VECTORS, ApproximateCheck, deviations
from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire.settings import Settings, plan_json
from private_lora.network.worker.held import Held, HeldProduct
from private_lora.specs.quantization import Quantization
from private_lora.split.weights import product_weight

ROWS = int(os.environ.get("APPROXIMATE_ROWS", "1100000"))
AT_ONCE = 2**13
# In standard deviations of the error of one value.
SIZES = (1, 5, 20, 50, 100, 200, 400, 1000, 3000, 10_000)


class Honest:
    """Client and server of one product, and the check of its answers."""

    def __init__(self, mask, bits=8, inputs=96, outputs=128, seed=0):
        generator = np.random.default_rng(seed)
        half = 2 ** (bits - 1)
        weight = np.clip(np.rint(generator.standard_normal((inputs, outputs)) * half / 4), -half, half - 1)
        self.weight = weight.astype(np.int8 if bits <= 8 else np.int16)
        # Trained weights have columns of different sizes, and so have activations' rows.
        self.weight[:, ::3] //= 4
        self.backend = load("packed_approx", mask=mask)
        self.plan = self.backend.plan(self.weight, bits)
        self.client = self.backend.client(self.plan).prepare(self.weight)
        self.server = self.backend.server(self.plan, self.weight)
        self.check = ApproximateCheck(self.weight, self.plan, self.backend.error_of_answers(self.plan, self.weight))
        self._half, self._generator = half, generator

    def rows(self, count):
        """Rows of all sizes, some of one value, some of none."""
        x = self._generator.integers(-self._half, self._half, (count, self.plan.inputs))
        x //= 2 ** self._generator.integers(0, 7, (count, 1))
        x[::17, 1:] = 0
        x[::101] = 0
        return x

    def answer(self, x):
        return self.client.decrypt(self.server.matmul(self.client.encrypt(x)))

    def value_std(self, x, y):
        """Of the error of one value, by row, as it is in these answers."""
        return (y - x @ self.weight.astype(np.int64)).std(axis=1)


CASES = [("session", 8), ("fresh", 8), ("session", 12)]


@pytest.mark.parametrize(("mask", "bits"), CASES)
def test_right_answers_pass_and_their_error_is_what_the_plan_says(mask, bits):
    honest = Honest(mask, bits)
    x = honest.rows(3000)
    y = honest.answer(x)
    assert (y != x @ honest.weight.astype(np.int64)).any()
    assert honest.check.accepts(x, y)
    residuals = honest.check.residuals(x, y)
    assert np.abs(residuals).max() < 6
    noisy = honest.value_std(x, y) > 3  # elsewhere rounding to integers prevails, which counts at its most
    assert noisy.sum() > 500
    six_deviations = 6 / np.sqrt(2 * noisy.sum())  # of a standard deviation of so many values
    for column in residuals[noisy].T:
        assert abs(column.std() - 1) < six_deviations


def single(generator, count, outputs):
    e = np.zeros((count, outputs))
    e[np.arange(count), generator.integers(0, outputs, count)] = generator.choice((-1, 1), count)
    return e


def pair(generator, count, outputs):
    e = single(generator, count, outputs)
    return e - np.roll(e, 1, axis=1)


def everywhere(generator, count, outputs):
    return generator.choice((-1.0, 1.0), (count, outputs))


def misses(honest, count, shape):
    """Share of wrong rows that pass, and the largest bound of the docstring, by size."""
    generator, found = np.random.default_rng(1), {}
    x = honest.rows(count)
    y = honest.answer(x)
    std = honest.value_std(x, y)
    x, y, std = x[std > 3], y[std > 3], std[std > 3]
    limit = honest.check._z * np.sqrt(
        honest.check._scaled / np.square(honest.check._error.scales(x))[:, None] + honest.check._fixed
    )
    for size in SIZES:
        sizes = np.maximum(1, np.rint(size * std)).astype(np.int64)
        e = shape(generator, len(x), honest.plan.outputs).astype(np.int64) * sizes[:, None]
        passed = 1 - len(honest.check.wrong_rows(x, y + e)) / len(x)
        factors = np.minimum(1, (2 * limit / sizes[:, None] + 1) / (2 * LARGEST_ENTRY + 1))
        found[size] = passed, float(factors.prod(axis=1).mean())
    return found


@pytest.mark.parametrize("shape", [single, pair, everywhere])
@pytest.mark.parametrize(("mask", "bits"), CASES)
def test_what_passes_of_wrong_rows_is_within_the_bound(mask, bits, shape):
    found = misses(Honest(mask, bits), 2000, shape)
    print(mask, bits, shape.__name__, {size: f"{passed:.4f} (bound {bound:.1e})" for size, (passed, bound) in found.items()})
    for size, (passed, bound) in found.items():
        # The bound is over secrets; a check has one, and 2000 rows share it.
        assert passed <= 4 * bound + 0.02, size
    assert found[1][0] > 0.99  # less than the scheme's own error is no lie that can be told
    assert found[SIZES[-1]][0] == 0
    if shape is everywhere:
        assert found[100][0] < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "bits"), CASES)
def test_a_million_right_rows_are_all_accepted(mask, bits):
    done = alarms = 0
    largest = 0.0
    for seed in range(-(-ROWS // (8 * AT_ONCE))):
        honest = Honest(mask, bits, seed=seed)  # another weight and other secrets
        for _ in range(8):
            x = honest.rows(AT_ONCE)
            y = honest.answer(x)
            alarms += len(honest.check.wrong_rows(x, y))
            largest = max(largest, float(np.abs(honest.check.residuals(x, y)).max()))
            done += len(x)
    print(f"{mask}, {bits} bits: {alarms} of {done} right rows refused; largest residual {largest:.2f} of {deviations():.2f}")
    assert done >= ROWS
    assert alarms == 0


def test_false_alarms_are_as_rare_as_promised():
    log2 = np.log2(2 * VECTORS) - deviations() ** 2 / 2 / np.log(2)
    assert log2 == pytest.approx(-(approximate.FALSE_ALARM_BITS + approximate.ROWS_LOG2))


def test_entries_are_uniform_and_from_the_operating_system(monkeypatch):
    drawn = approximate._uniform((100, 2550))
    counts = np.bincount((drawn + LARGEST_ENTRY).ravel())
    assert len(counts) == 2 * LARGEST_ENTRY + 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 400  # chi-square, 254 degrees of freedom
    monkeypatch.setattr(approximate.os, "urandom", lambda count: bytes(range(256)) * (count // 256 + 1))
    assert (approximate._uniform((255,)) == np.arange(-LARGEST_ENTRY, LARGEST_ENTRY + 1)).all()


def test_what_is_no_answer_is_refused_and_the_secret_stays():
    honest = Honest("session")
    x = honest.rows(4)
    y = honest.answer(x)
    for wrong in (y[:3], y[:, :-1], y.astype(float)):
        with pytest.raises(ValueError, match="rows"):
            honest.check.accepts(x, wrong)
    beyond = y.copy()
    beyond[0, 0] = 2**62
    assert list(honest.check.wrong_rows(x, beyond)) == [0]
    with pytest.raises(TypeError, match="not serialized"):
        pickle.dumps(honest.check)


def test_a_worker_that_lies_to_packed_approx_is_dropped(local_worker):
    """Over a network, with an answer to another question's rows: the largest lie that costs nothing."""
    backend, name = load("packed_approx"), "layer forward"
    matrix = np.random.default_rng(0).standard_normal((96, 128)).astype(np.float32)
    weight = product_weight(matrix, name, Quantization("dynamic_per_token", "static_per_channel", 8, 8))
    plan = backend.plan(weight.values, 8)
    other = np.roll(weight.values, 1, axis=1)
    settings = Settings("sha256:1", "packed_approx", "{}", 8, 8, "static_per_channel", "exact", True)
    product = HeldProduct(name, weight.digest(), plan_json(plan), backend.server(plan, weight.values))
    held = Held(settings, backend, {name: product})
    liar = lying(held, lambda question, _: backend.server(plan, other).matmul(question))
    with local_worker(liar) as first, local_worker(lying(held, lambda _, answer: answer)) as second:
        workers = Workers([Connection(address_of(one), None) for one in (first, second)], Patience(30, 1))
        place = RemotePlace(workers, Asking())
        server = place.server(backend, plan, weight)
        workers.connect(settings, place._expected)
        client = backend.client(plan).prepare(weight.values)
        for seed in range(3):
            x = np.random.default_rng(seed).integers(-128, 128, (20, 96))
            y = place.product(client, server, x).y
            assert np.abs(y - x @ weight.values.astype(np.int64)).max() < 8 * plan.noise_std
        assert list(workers.dropped) == [str(address_of(first))]
        assert (asked_of(first), asked_of(second)) == (1, 3)
        assert place.report()["checks"] == {"ApproximateCheck": 1}
        assert server.counters.verified_rows == 60
        place.close()
