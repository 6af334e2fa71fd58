"""`packed` against int64, over as many values as asked for: `make exactness` checks 10^8, the test-suite a hundredth of it."""

import itertools
from collections import Counter

import numpy as np

from private_lora.backends import load
from private_lora.backends.packed import exact as packed
from private_lora.backends.packed import hints, session
from private_lora.crypto.kernels import KERNELS, is_exact
from private_lora.specs.fields import MAX_BITS, MIN_BITS

BITS = range(MIN_BITS, MAX_BITS + 1)
MASKS, LARGEST_ROWS = ("session", "fresh"), 8200
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


def sizes(generator):
    """Rows, inputs, outputs: from a single token on, each order of magnitude as often; around 512 slots and 2,048 coefficients,
    too. Some layers are so deep that sums of their columns need several pieces where a kernel gives float32.
    """
    rows = int(generator.choice([1, 511, 512, 513, 2047, 2048, 2049, int(LARGEST_ROWS ** generator.random()), LARGEST_ROWS]))
    most = 3000 if generator.random() < 0.1 else 300
    return rows, int(generator.integers(1, most)), int(generator.integers(1, 110))


def test_no_value_differs_from_int64(checked_values, capsys, monkeypatch):
    generator, checked, seen = np.random.default_rng(0), Counter(), set()
    kernels = [name for name, kind in KERNELS.items() if is_exact(kind)]
    settings = list(itertools.product(BITS, BITS, PATTERNS))
    order = (settings[i] for _ in itertools.count() for i in generator.permutation(len(settings)))
    ways = itertools.cycle(itertools.product(MASKS, kernels))
    while checked.total() < checked_values:
        (activation_bits, weight_bits, pattern), (mask, kernel) = setting, way = next(order), next(ways)
        for module in (session, packed, hints):
            monkeypatch.setattr(module, "fastest_kernel", lambda kernel=kernel: kernel)
        rows, inputs, outputs = sizes(generator)
        weight = matrix(generator, generator.choice(["random", *PATTERNS[:3]]), (inputs, outputs), weight_bits)
        x, backend = matrix(generator, pattern, (rows, inputs), activation_bits), load("packed", mask=mask)
        plan = backend.plan(weight, activation_bits)
        client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
        expected, first = exact(x, weight), int(generator.integers(0, rows))
        for part in (slice(0, first), slice(first, rows)):  # so that pads are used by several questions, and spanned
            if part.start < part.stop:
                y = client.decrypt(server.matmul(client.encrypt(x[part])))
                wrong = int((y != expected[part]).sum())
                assert wrong == 0, (*setting, *way, rows, inputs, outputs, part, wrong)
                checked[" ".join(way)] += y.size
        seen.add(setting)
    with capsys.disabled():
        print(f"\n{checked.total():,} values in {len(seen)} of {len(settings)} settings, none differs from int64")
        print(", ".join(f"{way} {count:,}" for way, count in checked.items()))
