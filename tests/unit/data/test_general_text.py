"""General text: many pieces of one size, those to rehearse and those to test from different works."""

from private_lora.data.sources import general_text


def pieces(split, seed=0):
    return [example.completion for example in general_text.examples({}, split, seed)]


def test_pieces_are_many_disjoint_and_of_one_size():
    train, test = pieces("train"), pieces("test")
    assert len(test) >= 64 and len(train) >= 1000
    assert not set(train) & set(test)
    assert all(general_text.SHORTEST <= len(piece) <= general_text.PIECE for piece in train + test)


def test_the_seed_draws_the_order_alone():
    assert pieces("test") != pieces("test", seed=1) and sorted(pieces("test")) == sorted(pieces("test", seed=1))
