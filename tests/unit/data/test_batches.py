"""Batches: epochs that are shuffled and joined, each batch a function of its number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from private_lora.data.encoding import Batches, batches


def numbered(rows):
    return {"input_ids": np.arange(rows)[:, None], "labels": np.arange(rows)[:, None] * 2}


@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 2**31), st.integers(1, 12))
def test_batches_are_reshuffled_epochs_joined(rows, size, seed, steps):
    drawn = list(batches(numbered(rows), size, steps, seed))
    assert len(drawn) == steps and all(b["input_ids"].shape == (size, 1) for b in drawn)
    assert all((b["labels"] == 2 * b["input_ids"]).all() for b in drawn)
    stream = np.concatenate([b["input_ids"][:, 0] for b in drawn])
    for start in range(0, len(stream) - rows + 1, rows):
        assert sorted(stream[start : start + rows]) == list(range(rows))


@given(st.integers(0, 50), st.integers(0, 2**31))
def test_any_batch_can_be_asked_for_alone(i, seed):
    in_order = list(batches(numbered(7), 3, i + 1, seed))
    assert (Batches(numbered(7), 3, seed).batch(i)["input_ids"] == in_order[i]["input_ids"]).all()


def test_seeds_and_epochs_are_shuffled_apart():
    orders = [tuple(Batches(numbered(30), 30, seed).indices(i)) for seed in (0, 1) for i in (0, 1)]
    assert len(set(orders)) == 4


@pytest.mark.parametrize(("rows", "size"), [(0, 1), (1, 0)])
def test_empty_batches_are_refused(rows, size):
    with pytest.raises(ValueError, match="at least one row"):
        Batches(numbered(rows), size, 0)


def test_negative_batch_number_is_refused():
    with pytest.raises(IndexError):
        Batches(numbered(3), 1, 0).batch(-1)
