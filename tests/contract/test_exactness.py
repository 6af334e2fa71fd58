"""`packed` against int64, over as many values as asked for: `make exactness` checks 10^8, the test-suite a hundredth of it."""

import itertools

import numpy as np

from private_lora.backends import load
from private_lora.specs.fields import MAX_BITS, MIN_BITS

BITS = range(MIN_BITS, MAX_BITS + 1)
PATTERNS = ("random", "all max", "all min", "one hot", "zero", "alternating extremes")


def matrix(generator, pattern, shape, bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if pattern == "random":
        return generator.integers(low, high + 1, shape)
    if pattern == "one hot":
        values = np.zeros(shape, np.int64)
        values[generator.integers(0, shape[0], 9), generator.integers(0, shape[1], 9)] = generator.choice([low, high], 9)
        return values
    if pattern == "alternating extremes":
        return np.where(generator.integers(0, 2, shape) == 1, high, low)
    return np.full(shape, {"all max": high, "all min": low, "zero": 0}[pattern])


def exact(x, weight):
    """int64 product; through float64 where no partial sum can pass 2^53, which is the same and faster."""
    largest = np.abs(x).max(initial=1) * float(np.abs(weight).max(initial=1)) * len(weight)
    if largest < 2**53:
        return (x.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)
    return x @ weight


def test_no_value_differs_from_int64(checked_values, capsys):
    generator = np.random.default_rng(0)
    backend, checked = load("packed"), 0
    settings = list(itertools.product(BITS, BITS, PATTERNS))
    order = (settings[i] for _ in itertools.count() for i in generator.permutation(len(settings)))
    seen = set()
    while checked < checked_values:
        activation_bits, weight_bits, pattern = setting = next(order)
        # Below, at and above one ciphertext of 2,048 rows; sizes that fill no tile, too.
        rows, inputs, outputs = (int(generator.integers(1, most)) for most in (2300, 300, 110))
        weight = matrix(generator, generator.choice(["random", *PATTERNS[:3]]), (inputs, outputs), weight_bits)
        x = matrix(generator, pattern, (rows, inputs), activation_bits)
        plan = backend.plan(weight, activation_bits)
        client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
        y = client.decrypt(server.matmul(client.encrypt(x)))
        wrong = int((y != exact(x, weight)).sum())
        assert wrong == 0, (*setting, rows, inputs, outputs, wrong)
        checked += y.size
        seen.add(setting)
    with capsys.disabled():
        print(f"\n{checked:,} values in {len(seen)} of {len(settings)} settings, none differs from int64")
