"""Sums of two numbers of two digits, worked column by column with the carry: a model of 2.8 M weights learns them.

A problem of GSM8K's form in little: a question, steps, `#### answer`. `27+48` is worked as `7+8=15`, `2+4+1=7`. There are 3,240
problems, sums below 100; a tenth of the pairs is held out by hash, both orders together, so the two
sides share no problem.
"""

import hashlib
from collections.abc import Iterator
from itertools import product

import numpy as np

from private_lora.data.examples import HELD_OUT_SHARE, Example, check_options

NUMBERS = range(10, 90)
LARGEST_SUM = 99


def example(a: int, b: int) -> Example:
    """The problem a + b as text."""
    units = a % 10 + b % 10
    carry = units // 10
    tens = a // 10 + b // 10 + carry
    steps = f"{a % 10}+{b % 10}={units}\n{a // 10}+{b // 10}+{carry}={tens}"
    return Example(f"{a}+{b}\n", f"{steps}\n#### {a + b}", str(a + b))


def is_test(a: int, b: int) -> bool:
    """Whether a pair of numbers, in either order, belongs to the test side: by its SHA-256 alone."""
    key = f"{min(a, b)} {max(a, b)}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % HELD_OUT_SHARE == 0


def validate(options: dict) -> None:
    """Nothing, or UserError: the generator takes no options."""
    check_options("column_addition", options)


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """Every problem of a split once, in an order drawn from the seed."""
    validate(options)
    pairs = [p for p in product(NUMBERS, NUMBERS) if sum(p) <= LARGEST_SUM and is_test(*p) == (split == "test")]
    order = np.random.default_rng([seed, split == "test"]).permutation(len(pairs))
    return (example(*pairs[i]) for i in order)
