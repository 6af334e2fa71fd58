"""Sums of two numbers of two digits, worked column by column: a model of 2.8 M weights learns them in a short run.

A problem has the form of GSM8K, a question, steps, `#### answer`: `27+48` is worked as `7+8=15`, `2+4+1=7`, `#### 75`. There
are 3,240 problems, all sums below 100. With the option `carry: false` they are the 1,980 in which no column carries; `14+55` is
worked as `4+5=9`, `1+5=6`, and learned in two thirds of the steps. A tenth of the pairs is held out by hash, both orders
together, so the two sides share no problem.
"""

import hashlib
from collections.abc import Iterator
from itertools import product

import numpy as np

from private_lora.data.examples import HELD_OUT_SHARE, Example, check_options

NUMBERS = range(10, 90)
LARGEST_SUM = 99


def example(a: int, b: int, carry: bool = True) -> Example:
    """The problem a + b as text. carry: of the units is added in the step of the tens, be it 0."""
    units, tens = a % 10 + b % 10, a // 10 + b // 10
    last = f"+{units // 10}={tens + units // 10}" if carry else f"={tens}"
    steps = f"{a % 10}+{b % 10}={units}\n{a // 10}+{b // 10}{last}"
    return Example(f"{a}+{b}\n", f"{steps}\n#### {a + b}", str(a + b))


def is_test(a: int, b: int) -> bool:
    """Whether a pair of numbers, in either order, belongs to the test side: by its SHA-256 alone."""
    key = f"{min(a, b)} {max(a, b)}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % HELD_OUT_SHARE == 0


def pairs(carry: bool) -> Iterator[tuple[int, int]]:
    """The numbers of every problem, in a fixed order; with carry False, those in which no column has a sum above 9."""
    for a, b in product(NUMBERS, NUMBERS):
        if a + b <= LARGEST_SUM and (carry or a % 10 + b % 10 <= 9):
            yield a, b


def validate(options: dict) -> None:
    """Nothing, or UserError for an unknown or mistyped option."""
    check_options("column_addition", options)


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """Every problem of a split once, in an order drawn from the seed."""
    validate(options)
    carry = options.get("carry") is not False
    found = [pair for pair in pairs(carry) if is_test(*pair) == (split == "test")]
    order = np.random.default_rng([seed, split == "test"]).permutation(len(found))
    return (example(*found[i], carry) for i in order)
