"""Security of RLWE with ternary secrets and errors of std 3.2, in bits, by the cost model of an attack: a *column*.

"128 bits" means something only with a cost model, so everything here is asked by column. Bits come from the table beside this
file, `lattice_estimates.csv`, which the lattice-estimator computed (Albrecht, Player, Scott, J. Math. Cryptol. 2015; its first
line has the versions), the smallest over the attacks that it has in that column; outside of the table from our own estimator
of one of these attacks (`estimator`), lowered by the most that it lies above the table.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from private_lora.crypto.estimator import COLUMNS, usvp_bits

TABLE = Path(__file__).with_name("lattice_estimates.csv")
COLUMN = "matzov"
"""the one that decides unless another is asked for"""
SECURITY_BITS = 128
RING_SIZES = (1024, 2048, 4096, 8192)
# No larger Q, whatever an estimate says, than the smaller of the Homomorphic Encryption Standard (2018) and the Security
# Guidelines for Implementing Homomorphic Encryption (2024/463).
_PUBLISHED_CAPS = {1024: 26, 2048: 53, 4096: 106, 8192: 214}
_RENAMED = {"classical": "matzov", "quantum": "chaloy21_quantum"}
FROM_TABLE, FROM_US = "lattice-estimator table", "own estimator"


class Estimate(NamedTuple):
    """bits: log2 of operations of the cheapest attack. basis: FROM_TABLE or FROM_US. attack: its name."""

    bits: float
    basis: str
    attack: str


def estimate(column: str, ring_size: int, log2_q: int) -> Estimate:
    """Of one secret. A modulus between two rows of the table counts as the larger one, which has fewer bits."""
    rows = _table().get(ring_size, {})
    row = min((q for q in rows if q >= log2_q), default=None)
    if row is None or log2_q < min(rows):
        bits = usvp_bits(column, ring_size, log2_q) - excess(column)
        return Estimate(max(bits, 0.0), FROM_US, "usvp")
    attack, bits = min(_attacks(rows[row], column).items(), key=lambda pair: pair[1])
    return Estimate(bits, FROM_TABLE, attack)


@cache
def excess(column: str) -> float:
    """The most by which our estimate of the one attack lies above the table's cheapest, in bits."""
    rows = ((n, q, row) for n, rows in _table().items() for q, row in rows.items())
    return max(0.0, *(usvp_bits(column, n, q) - min(_attacks(row, column).values()) for n, q, row in rows))


@cache
def security_caps(column: str, bits: float = SECURITY_BITS) -> dict[int, int]:
    """Largest log2 Q by ring size that leaves so many bits; raises ValueError on an unknown column."""
    check_column(column)
    return {n: _largest_modulus(column, n, bits) for n in RING_SIZES}


def _largest_modulus(column: str, ring_size: int, bits: float) -> int:
    """By bisection, because bits fall as the modulus grows."""
    low, high = 0, _PUBLISHED_CAPS[ring_size]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate(column, ring_size, middle).bits >= bits else (low, middle - 1)
    return low


def check_column(column: str) -> None:
    """Nothing; raises ValueError, one sentence, on a name that is none of COLUMNS."""
    if column in _RENAMED:
        raise ValueError(f"security {column!r} named no cost model and is gone: use {_RENAMED[column]!r}, or one of {_known()}")
    if column not in COLUMNS:
        raise ValueError(f"unknown security column {column!r}: known are {_known()}")


def report(column: str, ring_size: int, log2_q: int, hybrid_bits: int = 0) -> dict:
    """What a sidecar says of one layer's security, by column: bits of one secret and its basis, and the margin.

    column: the one that decided. hybrid_bits: what a proof over many secrets costs. Margin: bits of log2 Q below the largest
    that leaves SECURITY_BITS of the proof; negative where fewer are left.
    """
    said: dict = {"security_column": column}
    for name in COLUMNS:
        found, cap = estimate(name, ring_size, log2_q), security_caps(name, SECURITY_BITS + hybrid_bits)[ring_size]
        said[f"{name}_bits_of_one_secret"] = round(found.bits, 1)
        said[f"{name}_bits_of_proof"] = round(found.bits - hybrid_bits, 1)
        said[f"{name}_basis"], said[f"{name}_attack"] = found.basis, found.attack
        said[f"{name}_cap_log2_q"], said[f"{name}_margin_log2_q"] = cap, cap - log2_q
    return said


def _known() -> str:
    return ", ".join(COLUMNS)


@cache
def _table() -> dict[int, dict[int, dict[str, float]]]:
    """Rows by ring size and log2 Q."""
    table: dict = {}
    with TABLE.open() as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            numbers = {name: float(value) for name, value in row.items()}
            table.setdefault(int(row["n"]), {})[int(row["log2_q"])] = numbers
    return table


def _attacks(row: dict[str, float], column: str) -> dict[str, float]:
    """Bits by attack in that column."""
    attacks = ("usvp", "bdd", "dual_hybrid")
    return {attack: row[f"{attack}_{column}"] for attack in attacks if f"{attack}_{column}" in row}


SECURITY_CAPS = {name: security_caps(name) for name in COLUMNS}
"""Largest log2 Q for SECURITY_BITS of one secret, by column and ring size."""
