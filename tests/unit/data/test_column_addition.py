"""Sums by columns: right, split by their numbers, and as short as is said."""

import pytest

from private_lora.core.errors import UserError
from private_lora.data.examples import final_answer
from private_lora.data.load import load_examples, validate_data
from private_lora.data.sources.column_addition import example, examples


def numbers(side) -> set[tuple[int, ...]]:
    return {tuple(sorted(int(n) for n in e.prompt.split("+"))) for e in side}


def test_a_sum_is_worked_with_its_carry():
    worked = example(27, 48)
    assert (worked.prompt, worked.completion) == ("27+48\n", "7+8=15\n2+4+1=7\n#### 75")


def test_every_answer_is_the_sum_and_no_pair_is_on_both_sides():
    train, test = (list(examples({}, split, 0)) for split in ("train", "test"))
    assert all(sum(map(int, e.prompt.split("+"))) == int(e.answer) == int(final_answer(e.completion)) for e in train + test)
    assert len(train) + len(test) == 3240 and 250 < len(test) < 400
    assert not numbers(train) & numbers(test)


def test_the_seed_draws_the_order_alone():
    once, again, other = (load_examples("column_addition", {}, "train", 50, seed) for seed in (0, 0, 1))
    assert once == again != other
    assert set(examples({}, "test", 0)) == set(examples({}, "test", 1))


def test_there_are_no_options():
    with pytest.raises(UserError, match="no option 'digits'"):
        validate_data("column_addition", {"digits": 3})
