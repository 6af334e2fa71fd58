"""What a worker is told of a run is a function of what docs/security.md lists: the same for texts of the same lengths."""

import pytest

from private_lora.backends.contract import unpack
from private_lora.training.loop import train_step
from private_lora.training.preparation import prepare

NUMBERS = {"session": 5, "fresh": 8}


def view(make_spec, directory, mask, **fields):
    """Product, length and numbers of every question of two steps, in order: all but ids, mask keys and residues."""
    spec = make_spec(backend="packed", backend_options={"mask": mask}, data="random_tokens", steps=2, eval_examples=0, **fields)
    run, seen = prepare(spec, directory), []
    for index, product in enumerate(run.session.products):
        product.server.matmul = watched(product.server.matmul, index, NUMBERS[mask], seen)
    for _ in range(2):
        train_step(run)
    return seen


def watched(matmul, index, count, seen):
    def asked(question):
        data = question.to_bytes()
        seen.append((index, len(data), unpack(data, count)[1]))
        return matmul(question)

    return asked


@pytest.mark.parametrize("mask", NUMBERS)
def test_two_texts_of_the_same_lengths_look_alike(mask, make_spec, tmp_path):
    first = view(make_spec, tmp_path / "first", mask, seed=1)
    assert len(first) > 10
    # Other tokens, another adapter, another learning rate.
    assert view(make_spec, tmp_path / "second", mask, seed=2, learning_rate=0.05) == first
    assert view(make_spec, tmp_path / "longer", mask, seed=1, sequence_length=65) != first
