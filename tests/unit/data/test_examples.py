"""The answer that a text ends with, and which examples are held out."""

import pytest

from private_lora.data.examples import final_answer, held_out


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 3+4=7\n#### 7", "7"),
        ("#### $1,250.00", "1250"),
        ("#### 72.\nand on it goes\n#### 9", "72"),
        ("####-3", "-3"),
        ("#### -$5", "-5"),
        ("#### 0.50", "0.5"),
        ("#### 007", "7"),
        ("#### yes ", "yes"),
        ("no mark, 7", None),
        ("#### \n7", None),
        ("", None),
    ],
)
def test_final_answer(text, answer):
    assert final_answer(text) == answer


def test_held_out_is_a_tenth_and_at_least_one():
    keys = [str(i) for i in range(95)]
    assert len(held_out(keys)) == 9 and held_out(keys) == held_out(keys[::-1] + keys)
    assert held_out(["a"]) == {"a"}
