"""Numbers made from losses and generated texts."""

import math

import pytest

from private_lora.core.errors import UserError
from private_lora.data.examples import Example
from private_lora.training import metrics


def test_running_mean():
    assert metrics.running_mean([4.0, 2.0, 3.0]) == [4.0, 3.0, 3.0]
    assert metrics.running_mean([]) == []


def test_perplexity():
    assert metrics.perplexity(0.0) == 1.0
    assert metrics.perplexity(math.log(37.06)) == pytest.approx(37.06)
    assert metrics.perplexity(1e4) == math.inf and math.isnan(metrics.perplexity(math.nan))


def test_exact_match():
    examples = [Example("", "", "7"), Example("", "", "1250"), Example("", "", None), Example("", "", "3")]
    assert metrics.exact_match(["#### 7", "#### $1,250", "#### 1", "no idea"], examples) == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="generate_examples"):
        metrics.exact_match(["a"], [Example("", "")])
    with pytest.raises(ValueError, match="1 predicted texts for 0"):
        metrics.exact_match(["a"], [])
