"""What tests of noise share: seeds, integers, products, and the comparison of errors with a predicted variance."""

import math

import numpy as np


def seed(*numbers):
    """A seed for tests that pass always or never."""
    return b"".join(number.to_bytes(2, "big") for number in numbers).ljust(32, b"\7")


def integers(number, shape, bits=8):
    return np.random.default_rng(number).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def exact(x, weight):
    """The product by float64, which holds every partial sum here."""
    return (x.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)


def norms(weight):
    return np.sqrt(np.square(weight.astype(np.float64)).sum(axis=0))


def assert_variance(errors, p, column_norms):
    """Mean zero, and the variance within 5 % for all columns of a kind.

    Half and more of all errors belong to one key and share its masks, so the mean's deviation is taken from rows and columns.
    """
    predicted = p.noise_variance(column_norms)
    kinds = np.unique(np.round(np.log2(predicted)), return_inverse=True)[1]
    for kind in range(kinds.max() + 1):
        chosen = kinds == kind
        if chosen.sum() >= 32:
            scaled = errors[:, chosen] / np.sqrt(predicted[chosen])
            assert abs(np.mean(scaled**2) - 1) < 0.05
            by_row, by_column = scaled.mean(axis=1), scaled.mean(axis=0)
            deviation = math.hypot(by_row.std() / math.sqrt(len(by_row)), by_column.std() / math.sqrt(len(by_column)))
            assert abs(scaled.mean()) < 5 * deviation
    assert abs(np.mean(errors**2 / predicted) - 1) < 0.05
