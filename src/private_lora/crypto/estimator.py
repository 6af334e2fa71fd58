"""A small estimator of our own of the primal attack on LWE with a ternary secret, beside the table of the lattice-estimator.

Attack: uSVP in the embedding of Bai and Galbraith (ACISP 2014), with as many samples as the attacker likes, its success as in
Alkim, Ducas, Pöppelmann, Schwabe ("New Hope", USENIX Security 2016), reduced bases by the geometric series assumption, root
Hermite factors of Chen (PhD thesis, 2013). RLWE and module-RLWE count as LWE of the same dimension.

Cost of reduction to block size b: core-SVP, one call of a sieve (`adps16`: 2^(0.292 b), the classical one of New Hope;
`chaloy21_quantum`: 2^(0.257 b), Chailloux and Loyer, Asiacrypt 2021), or gates of progressive BKZ (`matzov`: MATZOV, 2022,
over Albrecht, Gheorghiu, Postlethwaite, Schanck, Asiacrypt 2020), with the dimensions for free of Ducas (Eurocrypt 2018).
"""

from __future__ import annotations

from functools import cache

import numpy as np

ERROR_STD = 3.2
"""of the errors of all encryptions, a discrete Gaussian"""
_SECRET_STD = (2 / 3) ** 0.5  # uniform over -1, 0, 1
_BLOCK_SIZES = np.arange(41, 4001, dtype=float)
# log2 of a sieve's gates in dimension b is at most slope * b + constant: MATZOV's corrected fit for list decoding.
_GATES_SLOPE, _GATES_CONSTANT = 0.29613500308205365, 20.387885985467914
_CORE_SVP = {"adps16": 0.292, "chaloy21_quantum": 0.257}
COLUMNS = ("matzov", *_CORE_SVP)


@cache
def usvp_bits(column: str, dimension: int, log2_q: int) -> float:
    """log2 of what the primal attack costs; `column` is one of COLUMNS. inf where no block size up to 4000 succeeds."""
    lattice = _smallest_lattice(_BLOCK_SIZES, dimension, log2_q)
    found = np.isfinite(lattice)
    if not found.any():
        return np.inf
    return float(_cost(column, _BLOCK_SIZES[found], lattice[found]).min())


def _smallest_lattice(block, dimension, log2_q):
    """Smallest dimension of the embedding in which reduction by `block` finds the secret; inf where none is.

    With secrets scaled up to the error's deviation s, the embedding of dimension d has volume q^(d - n - 1) (s / s_secret)^n s.
    The projection of the short vector on the last block, s sqrt(block), must be shorter than that block's first vector,
    delta^(2 block - d - 1) volume^(1/d): after multiplying by d, a quadratic inequality in d.
    """
    log_q, log_delta = log2_q * np.log(2), np.log(_root_hermite(block))
    log_scales = np.log(ERROR_STD) + dimension * np.log(ERROR_STD / _SECRET_STD)
    a = -log_delta
    b = log_delta * (2 * block - 1) + log_q - np.log(ERROR_STD**2 * block) / 2
    c = log_scales - (dimension + 1) * log_q
    discriminant = b * b - 4 * a * c
    root = np.sqrt(np.maximum(discriminant, 0))
    first, last = (-b + root) / (2 * a), (-b - root) / (2 * a)
    found = np.maximum(np.maximum(np.ceil(first), dimension), block + 1)
    return np.where((discriminant >= 0) & (found <= last), found, np.inf)


def _root_hermite(block):
    """Length of the first vector of a reduced basis: delta^d volume^(1/d)."""
    return (block / (2 * np.pi * np.e) * (np.pi * block) ** (1 / block)) ** (1 / (2 * (block - 1)))


def _cost(column, block, lattice):
    """log2 of the cost of reducing a lattice of that dimension."""
    if column in _CORE_SVP:
        return _CORE_SVP[column] * block
    free = np.maximum(block * np.log(4 / 3) / np.log(block / (2 * np.pi * np.e)), 0)
    progressive = -np.log2(1 - 2**-_GATES_SLOPE)  # all smaller sieves together, over the largest
    calls = progressive + np.log2(lattice - block)
    return np.logaddexp2(calls + progressive + _GATES_SLOPE * (block - free) + _GATES_CONSTANT, 3 * np.log2(lattice))
