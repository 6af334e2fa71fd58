"""Facts of an invented company: each asked for in every wording, no test question in training, equal for equal options."""

from collections import Counter

import pytest

from private_lora.core.errors import UserError
from private_lora.data.load import load_examples, validate_data
from private_lora.data.sources import knowledge_base as kb
from private_lora.data.sources.knowledge_base_wordings import WORDINGS

OPTIONS = {"people": 6, "products": 4, "rules": 3, "unanswerable": 8}
FACTS = 4 * 6 + 4 * 4 + 3


def questions(split, options=OPTIONS, seed=0):
    return list(kb.examples(options, split, seed))


def test_every_relation_has_six_wordings_to_train_and_two_others_to_test():
    for relation, wordings in WORDINGS.items():
        assert (len(wordings["train"]), len(wordings["test"])) == (6, 2), relation
        everything = wordings["train"] + wordings["test"]
        assert len(set(everything)) == 8 and all("{subject}" in text for text in everything)
    texts = [text for wordings in WORDINGS.values() for split in wordings.values() for text in split]
    assert len(set(texts)) == len(texts)


def test_each_fact_is_asked_for_in_each_wording():
    known, _ = kb.facts(OPTIONS)
    assert len(known) == FACTS
    for split, turns in (("train", 6), ("test", 2)):
        asked = questions(split)
        assert len({example.prompt for example in asked}) == len(asked) == turns * (FACTS + 8)
        right = [example.completion for example in asked if not example.kind]
        assert Counter(right) == Counter(fact.answer for fact in known for _ in range(turns))
        assert sum(example.kind == "unanswerable" for example in asked) == 8 * turns
        assert all((example.completion == kb.UNKNOWN) == (example.kind == "unanswerable") for example in asked)


def test_no_question_and_no_unknown_subject_is_on_both_sides():
    train, test = questions("train"), questions("test")
    assert not {example.prompt for example in train} & {example.prompt for example in test}
    _, unknown = kb.facts(OPTIONS)
    subjects = {split: {fact.subject for fact in facts} for split, facts in unknown.items()}
    assert not subjects["train"] & subjects["test"]
    known = {fact.subject for fact in kb.facts(OPTIONS)[0]}
    assert not known & (subjects["train"] | subjects["test"])


def test_the_first_of_a_split_ask_for_each_fact_once():
    first = load_examples("knowledge_base", OPTIONS | {"unanswerable": 0}, "test", FACTS, seed=3)
    assert Counter(e.completion for e in first) == Counter(f.answer for f in kb.facts(OPTIONS | {"unanswerable": 0})[0])


def test_the_seed_of_a_run_draws_the_order_and_the_world_the_facts():
    assert questions("train") == questions("train")
    assert questions("train") != questions("train", seed=1)
    assert Counter(questions("train")) == Counter(questions("train", seed=1))
    assert kb.facts(OPTIONS)[0] != kb.facts(OPTIONS | {"world": 1})[0]


def test_a_fact_has_one_answer():
    for world in range(5):
        known, _ = kb.facts({"world": world})
        assert len({(fact.relation, fact.subject) for fact in known}) == len(known) == 250


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"people": 0}, "set people to 1 or more"),
        ({"people": 10_000}, "can be at most"),
        ({"rules": 100}, "can be at most"),
        ({"world": -1}, "must not be negative"),
        ({"unanswerable": 10_000}, "can be at most"),
        ({"planets": 3}, "no option 'planets'"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        validate_data("knowledge_base", options)


def test_too_many_examples_are_refused():
    with pytest.raises(UserError, match=rf"has {2 * (FACTS + 8)} test examples"):
        load_examples("knowledge_base", OPTIONS, "test", 1000, seed=0)
