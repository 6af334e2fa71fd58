"""Sources, encoding, batches and metrics, on a tokenizer of a few hundred entries that is trained here."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.core.errors import UserError
from private_lora.data.encoding import Batches, batches, encode, encoding_report, prompt_ids
from private_lora.data.examples import Example, final_answer, held_out
from private_lora.data.load import load_examples, validate_data
from private_lora.data.sources import codebase
from private_lora.training import metrics

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def make_tokenizer(**special):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    texts = [e.prompt + e.completion for e in load_examples("math_problems", {}, "train", 300, 0)]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(**SPECIAL)


@pytest.fixture
def problems():
    return load_examples("math_problems", {}, "train", 8, 0)


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def qa(n, start=0):
    return [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(start, start + n)]


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 3+4=7\n#### 7", "7"),
        ("#### $1,250.00", "1250"),
        ("#### 72.\nand on it goes\n#### 9", "72"),
        ("####-3", "-3"),
        ("#### -$5", "-5"),
        ("#### 0.50", "0.5"),
        ("#### 007", "7"),
        ("#### yes ", "yes"),
        ("no mark, 7", None),
        ("#### \n7", None),
        ("", None),
    ],
)
def test_final_answer(text, answer):
    assert final_answer(text) == answer


# --- JSONL ----------------------------------------------------------------------------------------


def test_gsm8k_shaped_file_in_two_parts(tmp_path):
    options = {
        "train_path": write_jsonl(tmp_path / "train.jsonl", qa(6)),
        "test_path": write_jsonl(tmp_path / "test.jsonl", qa(3, start=100)),
        "prompt_field": "question",
        "completion_field": "answer",
    }
    validate_data("jsonl", options, train_examples=6, test_examples=3)
    train = load_examples("jsonl", options, "train", 6, seed=0)
    assert train[0] == Example("What is 0 + 1?\n", "It is 1.\n#### 1", "1")
    assert load_examples("jsonl", options, "test", 1, seed=9)[0].answer == "101"


@pytest.mark.parametrize("key", ["path", "train_path"])
def test_one_file_is_divided_by_prompt_alike_for_every_seed(tmp_path, key):
    options = {key: write_jsonl(tmp_path / "all.jsonl", qa(40) + qa(40))}
    train, test = (load_examples("jsonl", options, s, n, seed=0) for s, n in (("train", 72), ("test", 8)))
    assert not {e.prompt for e in train} & {e.prompt for e in test}
    assert load_examples("jsonl", options, "test", 8, seed=1) == test


def test_field_names_and_a_separate_answer(tmp_path):
    records = [{"q": "Why?", "a": "Because.", "label": "$2,000"}] * 2
    options = {
        "train_path": write_jsonl(tmp_path / "a.jsonl", records),
        "test_path": write_jsonl(tmp_path / "b.jsonl", records),
        "prompt_field": "q",
        "completion_field": "a",
        "answer_field": "label",
    }
    assert load_examples("jsonl", options, "test", 1, 0) == [Example("Why?\n", "Because.", "2000")]
    del options["answer_field"]
    assert load_examples("jsonl", options, "train", 1, 0)[0].answer is None


GOOD = b'{"question": "a", "answer": "b"}\n'


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (GOOD + b"\n" + b'{"question": "a", "answer"\n', "line 3", "not valid JSON"),
        (GOOD + b"[1, 2]\n", "line 2", "not a JSON object but a list"),
        (b'{"question": "a"}', "line 1", "no field 'answer'"),
        (b"{}", "line 1", "no field 'question'"),
        (b'{"question": 3, "answer": "b"}', "line 1", "must be a string, not int"),
        (b'{"question": "a", "answer": null}', "line 1", "must be a string, not NoneType"),
        (b'{"question": "a", "answer": " "}', "line 1", "'answer' is empty"),
        (b'{"question": "\xff", "answer": "b"}', "line 1", "not UTF-8"),
        (b'{"question": "\\ud800", "answer": "b"}', "line 1", "surrogate"),
        (b"[" * 100_000, "line 1", "not valid JSON"),
        (b"", "bad.jsonl is empty", "JSON object"),
        (b"\n \n", "bad.jsonl is empty", "JSON object"),
    ],
)
def test_bad_file_is_named_with_its_line(tmp_path, content, line, reason):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    for options in (
        {"path": str(path)},
        {"train_path": write_jsonl(tmp_path / "ok", qa(2)), "test_path": str(path)},
    ):
        with pytest.raises(UserError) as caught:
            validate_data("jsonl", options)
        message = str(caught.value)
        assert str(path) in message and line in message and reason in message and "\n" not in message


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 2)
    validate_data("jsonl", {"path": str(path)})


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("poems", {}, "math_problems"),
        ("math_problems", {"level": 3}, "no option 'level'"),
        ("math_problems", [], "must be a mapping"),
        ("jsonl", {}, "path"),
        ("jsonl", {"path": "a", "train_path": "b"}, "path"),
        ("jsonl", {"test_path": "b"}, "train_path"),
        ("jsonl", {"path": "a", "test_path": "b"}, "train_path"),
        ("jsonl", {"train_path": "a", "test_path": "./a"}, "same file"),
        ("jsonl", {"path": 3}, "must be a str"),
        ("jsonl", {"path": ""}, "must be a str"),
        ("jsonl", {"path": "/no/such/file"}, "No such file"),
        ("jsonl", {"path": "/"}, "directory"),
        ("jsonl", {"file": "x"}, "known options: answer_field"),
        ("codebase", {"directory": "/no/such/folder"}, "not a directory"),
        ("codebase", {"chunk_characters": 0}, "at least 1"),
        ("codebase", {"chunk_characters": "short"}, "must be a int"),
        ("hub", {}, "needs the option name"),
        ("hub", {"name": "a/b", "split": "train"}, "no option 'split'"),
        ("hub", {"name": "a/b", "test_split": "train"}, "are the same"),
    ],
)
def test_bad_options_are_one_sentence(name, options, reason):
    with pytest.raises(UserError) as caught:
        validate_data(name, options)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_examples_says_how_many(tmp_path):
    options = {"path": write_jsonl(tmp_path / "all.jsonl", qa(20))}
    with pytest.raises(UserError, match="18 train examples and 19"):
        validate_data("jsonl", options, train_examples=19)
    with pytest.raises(UserError, match="2 test examples and 3"):
        load_examples("jsonl", options, "test", 3, 0)


def test_unknown_split_is_a_programming_error():
    with pytest.raises(ValueError, match="split"):
        load_examples("math_problems", {}, "valid", 1, 0)


# --- source files ---------------------------------------------------------------------------------


def test_chunks_of_a_codebase_can_be_shorter():
    texts = [e.completion for e in load_examples("codebase", {"chunk_characters": 24}, "train", 200, 0)]
    assert max(map(len, texts)) <= 24 < max(len(e.completion) for e in load_examples("codebase", {}, "train", 9, 0))


def test_the_standard_library_stands_in_for_a_private_codebase():
    train, test = (load_examples("codebase", {"directory": None}, s, 100, 0) for s in ("train", "test"))
    assert all(e.prompt == "" and e.answer is None and e.completion.strip() for e in train + test)
    assert train == load_examples("codebase", {}, "train", 100, 0) != load_examples("codebase", {}, "train", 100, 1)


def test_whole_files_go_to_one_side(tmp_path):
    (tmp_path / "package" / ".git").mkdir(parents=True)
    for i in range(12):
        (tmp_path / "package" / f"m{i}.py").write_text("# licence\n" * 20 + f"x{i} = 1\n" * 60)
    (tmp_path / "package" / "copy.py").write_text((tmp_path / "package" / "m3.py").read_text())
    (tmp_path / "package" / ".git" / "hidden.py").write_text("hidden = 1\n")
    (tmp_path / "package" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "package" / "latin.py").write_bytes(b"caf\xe9 = 1\n")
    options = {"directory": str(tmp_path)}
    validate_data("codebase", options)
    train, test = ({e.completion for e in codebase.examples(options, s, 0)} for s in ("train", "test"))
    files = [
        {name for name in ["latin", *(f"x{i}" for i in range(12))] for c in side if name + " " in c} for side in (train, test)
    ]
    assert train and test and not train & test
    assert not files[0] & files[1]
    assert not any("hidden" in c or "PNG" in c for c in train | test)


def test_one_file_leaves_nothing_to_train_on(tmp_path):
    (tmp_path / "only.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="0 train examples"):
        load_examples("codebase", {"directory": str(tmp_path)}, "train", 1, 0)


def test_directory_without_source_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("\n")
    (tmp_path / "notes.bin").write_bytes(b"1234")
    with pytest.raises(UserError, match="no source file"):
        validate_data("codebase", {"directory": str(tmp_path)})


def test_unreadable_file_is_named(tmp_path):
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    with pytest.raises(UserError, match=r"gone\.py"):
        validate_data("codebase", {"directory": str(tmp_path)})


@given(st.text(alphabet="ab \n\r\t", max_size=300), st.integers(1, 40))
def test_chunks_lose_only_white_space(text, size):
    pieces = codebase.chunks(text, size)
    assert all(len(piece) <= size for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_held_out_is_a_tenth_and_at_least_one():
    keys = [str(i) for i in range(95)]
    assert len(held_out(keys)) == 9 and held_out(keys) == held_out(keys[::-1] + keys)
    assert held_out(["a"]) == {"a"}


# --- hub ------------------------------------------------------------------------------------------


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


# --- encoding -------------------------------------------------------------------------------------


def test_rows_hold_begin_prompt_completion_end_padding(tokenizer, problems):
    encoded = encode(problems, tokenizer, 128)
    starts = prompt_ids(problems, tokenizer)
    for row, example in enumerate(problems):
        ids, mask, labels = (encoded[key][row] for key in ("input_ids", "attention_mask", "labels"))
        length = mask.sum()
        assert ids[0] == tokenizer.bos_token_id and ids[length - 1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[1 : length - 1]) == example.prompt + example.completion
        assert ids[: len(starts[row])].tolist() == starts[row]
        assert mask[:length].all() and (ids[length:] == tokenizer.pad_token_id).all()
        assert tokenizer.decode(labels[labels != -100]) == example.completion + "</s>"
        assert (labels == np.where(labels == -100, -100, ids)).all()


def test_arrays_are_int64_of_one_shape(tokenizer, problems):
    encoded = encode(problems, tokenizer, 64)
    assert list(encoded) == ["input_ids", "attention_mask", "labels"]
    assert all(values.shape == (8, 64) and values.dtype == np.int64 for values in encoded.values())
    assert encode([], tokenizer, 64)["labels"].shape == (0, 64)


def test_padding_counts_only_when_asked(tokenizer, problems):
    plain, counted = (encode(problems, tokenizer, 128, count_padding=flag) for flag in (False, True))
    padding = plain["attention_mask"] == 0
    assert padding.any()
    assert (plain["labels"][padding] == -100).all()
    assert (counted["labels"][padding] == tokenizer.pad_token_id).all()
    assert (counted["labels"][~padding] == plain["labels"][~padding]).all()
    assert (counted["attention_mask"] == plain["attention_mask"]).all()


def test_a_long_example_is_cut_and_counted(tokenizer):
    long, short = Example("Why?\n", "abc " * 50), Example("Why?\n", "So.")
    encoded = encode([long, short], tokenizer, 16)
    assert encoded["attention_mask"][0].all() and encoded["input_ids"][0, -1] != tokenizer.eos_token_id
    assert encoding_report([long, short], tokenizer, 16) == {"examples": 2, "truncated": 1, "left_out": 0}


def test_the_exact_length_is_not_cut(tokenizer):
    example = Example("Why?\n", "So it is.")
    length = int(encode([example], tokenizer, 64)["attention_mask"].sum())
    assert encode([example], tokenizer, length)["input_ids"][0, -1] == tokenizer.eos_token_id
    assert encoding_report([example], tokenizer, length)["truncated"] == 0
    assert encoding_report([example], tokenizer, length - 1)["truncated"] == 1


def test_an_example_without_room_for_its_answer_gets_no_row(tokenizer):
    examples = [Example("abc " * 50, "So."), Example("Why?\n", "So.")]
    encoded = encode(examples, tokenizer, 16)
    assert len(encoded["input_ids"]) == 1 and (encoded["labels"] != -100).any(axis=1).all()
    assert encoding_report(examples, tokenizer, 16) == {"examples": 2, "truncated": 1, "left_out": 1}
    with pytest.raises(UserError, match="raise sequence_length"):
        encode(examples[:1], tokenizer, 16)


@pytest.mark.parametrize(
    ("special", "begin", "end", "pad"),
    [
        ({"bos_token": "<s>", "eos_token": "</s>"}, "<s>", "</s>", "</s>"),  # Llama 3
        ({"bos_token": "<s>", "eos_token": "<s>"}, "<s>", "<s>", "<s>"),  # GPT-2
        ({"eos_token": "</s>", "pad_token": "</s>"}, None, "</s>", "</s>"),
        ({"bos_token": "<s>"}, "<s>", None, "<s>"),
        ({}, None, None, "<pad>"),
    ],
)
def test_missing_special_tokens(special, begin, end, pad, problems):
    tokenizer = make_tokenizer(**special)
    encoded = encode(problems, tokenizer, 128)
    for row, example in enumerate(problems):
        length = int(encoded["attention_mask"][row].sum())
        text = (begin or "") + example.prompt + example.completion + (end or "")
        assert tokenizer.decode(encoded["input_ids"][row, :length]) == text
        assert (encoded["input_ids"][row, length:] == tokenizer.convert_tokens_to_ids(pad)).all()
        learned = encoded["labels"][row, :length]
        assert tokenizer.decode(learned[learned != -100]) == example.completion + (end or "")
        assert (encoded["labels"][row, length:] == -100).all()


def test_text_without_a_prompt_is_learned_from_its_first_token(tokenizer):
    encoded = encode([Example("", "for x in y:\n    pass\n")], tokenizer, 64)
    learned = encoded["labels"][0] != -100
    assert not learned[0] and learned[1] and learned.sum() == encoded["attention_mask"].sum() - 1


# --- batches --------------------------------------------------------------------------------------


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


# --- metrics --------------------------------------------------------------------------------------


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


# --- imports --------------------------------------------------------------------------------------


def test_validation_imports_neither_torch_nor_datasets(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", qa(20))
    code = (
        "import sys; from private_lora.data.load import validate_data; import private_lora.training.metrics\n"
        f"validate_data('jsonl', {{'path': {path!r}}}, 5, 1); validate_data('math_problems', {{}}, 5, 5)\n"
        "validate_data('codebase', {}); validate_data('hub', {'name': 'a/b'})\n"
        "assert not {'torch', 'datasets', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
