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


def test_without_carries_every_column_is_one_digit():
    assert example(14, 55, carry=False).completion == "4+5=9\n1+5=6\n#### 69"
    sides = [list(examples({"carry": False}, split, 0)) for split in ("train", "test")]
    assert {len(e.completion) for side in sides for e in side} == {len("4+5=9\n1+5=6\n#### 69")}


@pytest.mark.parametrize(("options", "count"), [({}, 3240), ({"carry": False}, 1980)])
def test_every_answer_is_the_sum_and_no_pair_is_on_both_sides(options, count):
    train, test = (list(examples(options, split, 0)) for split in ("train", "test"))
    assert all(sum(map(int, e.prompt.split("+"))) == int(e.answer) == int(final_answer(e.completion)) for e in train + test)
    assert len(train) + len(test) == count and count / 14 < len(test) < count / 8
    assert not numbers(train) & numbers(test)


def test_the_seed_draws_the_order_alone():
    once, again, other = (load_examples("column_addition", {}, "train", 50, seed) for seed in (0, 0, 1))
    assert once == again != other
    assert set(examples({}, "test", 0)) == set(examples({}, "test", 1))


@pytest.mark.parametrize(
    ("options", "reason"), [({"digits": 3}, "no option 'digits'"), ({"carry": 1}, "must be a bool, not 1")]
)
def test_other_options_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        validate_data("column_addition", options)
