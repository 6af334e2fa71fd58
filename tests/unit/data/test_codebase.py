"""Source files as data: chunks, sides, and files that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from private_lora.core.errors import UserError
from private_lora.data.load import load_examples, validate_data
from private_lora.data.sources import codebase


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
