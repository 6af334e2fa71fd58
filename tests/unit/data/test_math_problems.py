"""Generated problems: right arithmetic, distinct, disjoint splits, short."""

import re
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.core.errors import UserError
from private_lora.data.examples import Example, final_answer
from private_lora.data.load import load_examples
from private_lora.data.sources import math_problems

EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": Fraction}
splits = st.sampled_from(["train", "test"])
seeds = st.integers(0, 2**32 - 1)


def problem_key(example: Example) -> str:
    """The wording without names and things, the numbers left in: what makes a problem."""
    words = re.findall(r"\d+|\w+", example.prompt)
    return " ".join(word for word in words if word not in math_problems.NAMES + math_problems.THINGS)


def assert_right(example: Example):
    equations = EQUATION.findall(example.completion)
    assert equations and len(equations) == example.completion.count("=")
    for a, sign, b, result in equations:
        assert OPERATIONS[sign](int(a), int(b)) == int(result), example
    assert example.answer == final_answer(example.completion) == equations[-1][-1]


@settings(max_examples=40)
@given(splits, seeds)
def test_every_worked_step_is_right(split, seed):
    for example in islice(math_problems.generate(split, seed), 60):
        assert_right(example)


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_problems_are_right_distinct_and_short(split):
    examples = list(math_problems.generate(split, seed=1))
    for example in examples:
        assert_right(example)
    assert len({problem_key(e) for e in examples}) == len(examples)
    assert max(len((e.prompt + e.completion).split()) for e in examples) <= 45
    assert all(2 <= int(n) <= 999 for e in examples for n in re.findall(r"\d+", e.prompt + e.completion))


def test_numbers_in_the_steps_come_from_the_question_or_an_earlier_step():
    for example in islice(math_problems.generate("train", seed=3), 2000):
        known = set(re.findall(r"\d+", example.prompt))
        for a, _, b, result in EQUATION.findall(example.completion):
            # The quotient of a division with remainder is the one number that is found without an equation.
            assert {a, b} <= known or "full boxes" in example.prompt
            known |= {a, b, result}


def test_thousands_of_problems_from_many_templates():
    sizes = {split: [len(pool) for pool in math_problems.problems(split)] for split in ("train", "test")}
    assert len(math_problems.TEMPLATES) >= 8
    assert sum(sizes["train"]) > 10_000 and sum(sizes["test"]) > 1_000
    assert min(sizes["train"]) > 100 and min(sizes["test"]) > 10


def test_the_splits_share_no_problem_even_when_exhausted():
    train, test = ({problem_key(e) for e in math_problems.generate(s, seed)} for s, seed in (("train", 0), ("test", 5)))
    assert not train & test


@settings(max_examples=20)
@given(splits, seeds, st.integers(0, 100))
def test_same_seed_same_problems_and_a_shorter_draw_is_a_prefix(split, seed, count):
    long = load_examples("math_problems", {}, split, 100, seed)
    assert load_examples("math_problems", {}, split, count, seed) == long[:count]


def test_seeds_differ():
    assert load_examples("math_problems", {}, "train", 20, 0) != load_examples("math_problems", {}, "train", 20, 1)


def test_templates_are_drawn_equally_often():
    examples = load_examples("math_problems", {}, "train", 2400, 0)
    trains = sum(e.prompt.startswith("A train") for e in examples)
    assert 140 < trains < 260


def test_more_than_there_are_is_refused_with_the_number():
    available = sum(map(len, math_problems.problems("test")))
    assert len(load_examples("math_problems", {}, "test", available, 0)) == available
    with pytest.raises(UserError, match=str(available)):
        load_examples("math_problems", {}, "test", available + 1, 0)
