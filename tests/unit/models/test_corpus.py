"""The pretraining text is the same every time, and its two parts share no document."""

import re
import sys
from pathlib import Path

import pytest

from private_lora.models.pretraining import corpus, english


@pytest.fixture
def sources(tmp_path):
    """A directory of forty small sources, one of them a test and one of them empty."""
    for i in range(40):
        (tmp_path / f"module{i}.py").write_text(f'"""{"What it does, at some length. " * 4}"""\nvalue = {i}\n')
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_it.py").write_text("assert True\n")
    (tmp_path / "empty.py").write_text("\n")
    return tmp_path


def test_the_corpus_is_deterministic(sources):
    first, second = (corpus.load(20_000, root=sources) for _ in range(2))
    assert corpus.digest(first["train"]) == corpus.digest(second["train"])
    assert corpus.digest(first["held_out"]) == corpus.digest(second["held_out"])


def test_another_seed_gives_other_english():
    texts = [corpus.english_documents(5_000, seed=seed)[0].text for seed in (0, 1)]
    assert texts[0] != texts[1]


def test_the_split_shares_no_name_and_leaves_nothing_out(sources):
    splits = corpus.load(200_000, root=sources)
    train, held_out = ({document.name for document in splits[name]} for name in ("train", "held_out"))
    assert not train & held_out
    share = len(held_out) / (len(train) + len(held_out))
    assert 0.02 < share < 0.10


def test_tests_and_empty_files_are_left_out(sources):
    names = [document.name for document in corpus.source_documents(sources)]
    assert names == sorted(f"module{i}.py" for i in range(40))


def test_a_docstring_is_on_its_files_side(sources):
    splits = corpus.load(1_000, root=sources)
    for documents in splits.values():
        by_kind = {kind: {d.name for d in documents if d.kind == kind} for kind in corpus.KINDS}
        assert by_kind["docstring"] == by_kind["code"]


def test_docstrings_are_found_and_cleaned():
    text = "First line, long enough to be kept: the corpus wants eighty characters or more."
    source = f'def f():\n    """{text}\n\n      Second.\n    """\n'
    assert corpus.docstrings(source) == [f"{text}\n\nSecond."]
    assert corpus.docstrings("def broken(:") == []


def test_the_standard_library_is_there():
    documents = corpus.source_documents()
    assert corpus.byte_counts(documents)["code"] > 5_000_000
    assert Path(sys.modules["json"].__file__).parent.name in {Path(d.name).parts[0] for d in documents}


def test_generated_english_solves_no_problem():
    texts = "\n".join(document.text for document in corpus.english_documents(300_000))
    assert "How many" in texts
    assert not re.search(r"\d *[-+*/x×=] *\d", texts)
    assert not re.search(r"(?i)question:|answer:|####|\bplus\b|\bminus\b|\bequals\b", texts)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (13, "thirteen"), (42, "forty-two"), (100, "one hundred"), (4015, "four thousand fifteen")],
)
def test_numbers_are_spelled(number, words):
    assert english.spell(number) == words
