"""General text: pieces of docstrings, none of them on both sides."""

from private_lora.data.sources import general_text


def test_pieces_are_many_disjoint_and_of_one_size():
    train, test = ([e.completion for e in general_text.examples({}, split, 0)] for split in ("train", "test"))
    assert len(test) >= 64 and len(train) > 5 * len(test)
    assert not set(train) & set(test)
    assert all(general_text.SHORTEST <= len(piece) <= general_text.PIECE for piece in train + test)


def test_the_seed_draws_the_order_alone():
    one, other = (list(general_text.examples({}, "test", seed)) for seed in (0, 1))
    assert one != other and sorted(e.completion for e in one) == sorted(e.completion for e in other)
