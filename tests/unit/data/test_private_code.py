"""Source code that no base model saw: this package's own by default, a directory, or installed packages."""

import pytest

from private_lora.core.errors import UserError
from private_lora.data.load import load_examples, validate_data
from private_lora.data.sources import codebase, private_code


def test_this_package_stands_in_for_code_that_nobody_was_trained_on():
    train, test = (load_examples("private_code", {}, split, 40, 0) for split in ("train", "test"))
    assert all(e.prompt == "" and e.answer is None for e in train + test)
    assert not {e.completion for e in train} & {e.completion for e in test}
    assert any("private_lora" in e.completion for e in train)
    assert 500 < max(len(e.completion) for e in train) <= private_code.CHUNK_CHARACTERS
    assert train == load_examples("private_code", {}, "train", 40, 0) != load_examples("private_code", {}, "train", 40, 1)


def test_a_directory_gives_the_chunks_of_a_codebase(tmp_path):
    for i in range(12):
        (tmp_path / f"m{i}.py").write_text(f"x{i} = 1\n" * 60)
    options = {"directory": str(tmp_path), "chunk_characters": 100}
    for split in ("train", "test"):
        assert list(private_code.examples(options, split, 3)) == list(codebase.examples(options, split, 3))


def test_installed_packages_by_name():
    one, two = (len(private_code.examples({"packages": names}, "train", 0)) for names in (["peft"], ["peft", "private_lora"]))
    assert 0 < one < two


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"packages": ["no_such_package"]}, "'no_such_package' is no installed package"),
        ({"packages": ["sys"]}, "'sys' is no installed package"),
        ({"packages": [3]}, "3 is no installed package"),
        ({"packages": ["peft"], "directory": "."}, "not both"),
        ({"packages": []}, "names no package"),
        ({"directory": "no-such-directory"}, "not a directory"),
        ({"chunk_characters": 0}, "data private_code must be at least 1"),
    ],
)
def test_what_cannot_be_read_is_refused(options, reason):
    with pytest.raises(UserError) as caught:
        validate_data("private_code", options)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
