"""The line that says how far a study is."""

import pytest

from private_lora.study.progress import progress_line

LINES = {
    (34, 61, 360.0, 245.0): "[ 34 of 61 runs, 6 min so far, about 4 min left ]",
    (1, 3, 12.0, 81.0): "[ 1 of 3 runs, 10 s so far, about 80 s left ]",
    (3, 3, 91.0, 0.0): "[ 3 of 3 runs, 2 min so far, about 10 s left ]",
}


@pytest.mark.parametrize("numbers", LINES)
def test_a_line_says_how_far_and_how_long_still(numbers):
    assert progress_line(*numbers) == LINES[numbers]
