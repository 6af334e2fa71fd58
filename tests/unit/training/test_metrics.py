"""Numbers made from losses and generated texts."""

import math

import numpy as np
import pytest

from private_lora.data.examples import Example
from private_lora.training import metrics


def test_running_mean():
    assert metrics.running_mean([4.0, 2.0, 3.0]) == [4.0, 3.0, 3.0]
    assert metrics.running_mean([]) == []


def test_perplexity():
    assert metrics.perplexity(0.0) == 1.0
    assert metrics.perplexity(math.log(37.06)) == pytest.approx(37.06)
    assert metrics.perplexity(1e4) == math.inf and math.isnan(metrics.perplexity(math.nan))


def test_texts_with_a_marked_answer():
    examples = [Example("", "", "7"), Example("", "", "1250"), Example("", "", None), Example("", "", "3")]
    assert metrics.right_texts(["#### 7", "#### $1,250", "#### 1", "no idea"], examples) == [True, True, None, False]
    with pytest.raises(ValueError, match="1 texts for 0"):
        metrics.right_texts(["a"], [])


def test_whole_completions_are_compared_where_no_answer_is_marked():
    examples = [Example("q", "1,250 euros"), Example("q", "Belmora"), Example("q", "7")]
    assert metrics.right_texts(["1250 euros.", "Belmora, I think", "7"], examples) == [True, False, True]


def test_answered_rows_are_counted_by_kind():
    examples = [Example("q", "a"), Example("q", "b"), Example("q", "unknown", kind="unanswerable"), Example("", "code")]
    rows = metrics.exact_matches(examples, np.array([True, False, True, True]))
    assert rows == [
        ("exact_match", 0.5, "fraction"),
        ("exact_match_questions", 2.0, ""),
        ("exact_match_unanswerable", 1.0, "fraction"),
        ("exact_match_unanswerable_questions", 1.0, ""),
    ]
    # Marked answers stand behind worked steps, of which there are several right ones.
    assert metrics.exact_matches([Example("q", "1+1=2 #### 2", "2")], np.array([True])) == []


def test_guessing_is_the_likeliest_answer_of_each_topic():
    train = [Example("q", answer, topic="town") for answer in ("Belmora", "Belmora", "Istel")] + [
        Example("q", "7", topic="price")
    ]
    held_out = [Example("q", "Belmora", topic="town"), Example("q", "Istel", topic="town"), Example("q", "7", topic="age")]
    held_out += [Example("q", "unknown", topic="town", kind="unanswerable")]
    assert metrics.guessed(train, held_out) == pytest.approx(1 / 3)
    assert metrics.guessed(train, []) is None
