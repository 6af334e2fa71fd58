"""Data sets of a hub, which no test reaches."""

import sys
from types import SimpleNamespace

import pytest
from jsonl_files import qa

from private_lora.core.errors import UserError
from private_lora.data.load import load_examples


def fake_datasets(monkeypatch, load_dataset):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_hub_dataset_with_and_without_a_test_split(monkeypatch):
    calls = []

    def load_dataset(name, config, revision, split):
        calls.append((name, config, revision, split))
        return qa(20) if split == "train" else qa(4, start=50)

    fake_datasets(monkeypatch, load_dataset)
    options = {"name": "openai/gsm8k", "config": "main", "revision": "abc"}
    assert len(load_examples("hub", options, "train", 18, 0)) == 18
    assert len(load_examples("hub", options, "test", 2, 0)) == 2
    options["test_split"] = "test"
    assert load_examples("hub", options, "train", 20, 0)[0].answer == "1"
    assert load_examples("hub", options, "test", 4, 0)[0].answer == "51"
    assert calls[0] == ("openai/gsm8k", "main", "abc", "train") and calls[-1][-1] == "test"


def test_unreachable_hub_is_one_sentence(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'a/b' on the Hub.\nA long story follows")

    fake_datasets(monkeypatch, load_dataset)
    with pytest.raises(UserError) as caught:
        load_examples("hub", {"name": "a/b"}, "train", 1, 0)
    assert "'a/b'" in str(caught.value) and "ConnectionError" in str(caught.value) and "\n" not in str(caught.value)


def test_hub_record_of_the_wrong_type_is_named(monkeypatch):
    fake_datasets(monkeypatch, lambda *args, **kwargs: [*qa(1), {"question": "a", "answer": ["b"]}])
    with pytest.raises(UserError, match="row 1: field 'answer' must be a string, not list"):
        load_examples("hub", {"name": "a/b"}, "train", 2, 0)
