"""Source files as private text: every file is cut into chunks of whole lines, each an example without a
prompt.

Without a directory, packages of the running Python's standard library stand in for the private code. They are
not private to a model pretrained on the standard library (as `mini-llama` may be, wholly or in part), and
their text changes with the Python version.
"""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from private_lora.core.errors import UserError
from private_lora.data.examples import Example, check_options, held_out

DEFAULT_PACKAGES = ("json", "email", "http", "urllib", "xml", "html")
SOURCE_SUFFIXES = {
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".rs", ".go", ".java", ".kt", ".scala", ".js",
    ".jsx", ".ts", ".tsx", ".rb", ".php", ".cs", ".swift", ".sh", ".sql", ".r",
}  # fmt: skip
CHUNK_CHARACTERS = 200  # about 64 tokens of a small vocabulary


def _unreadable(error: OSError):
    raise UserError(f"Cannot read {error.filename}: {error.strerror}; check data_options.directory.") from error


def _source_paths(directory: Path) -> Iterator[Path]:
    """The source files below a directory in a fixed order, leaving out hidden folders and caches."""
    for folder, subfolders, files in os.walk(directory, onerror=_unreadable):
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "__pycache__")
        yield from (Path(folder, file) for file in sorted(files) if Path(file).suffix.lower() in SOURCE_SUFFIXES)


def _directories(options: dict) -> list[Path]:
    if options.get("directory") is not None:
        return [Path(options["directory"])]
    library = Path(sysconfig.get_paths()["stdlib"])
    return [library / package for package in DEFAULT_PACKAGES]


def _read(path: Path) -> str:
    try:
        # Old sources are not always UTF-8, and one odd byte should not keep a file out.
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        _unreadable(error)


def read_texts(directories: list[Path]) -> list[str]:
    """The distinct non-blank texts of all source files below directories; UserError if there are none."""
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory} is not a directory; check the path.")
    texts = dict.fromkeys(_read(path) for directory in directories for path in _source_paths(directory))
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError(f"{directories[0]} holds no source file with text in it; check data_options.directory.")
    return texts


def chunks(text: str, size: int = CHUNK_CHARACTERS) -> list[str]:
    """A text in pieces of at most `size` characters, cut at line ends where lines are no longer than that.

    Joined, they are the text again, but for pieces of nothing but white space, which are left out.
    """
    pieces = [""]
    for line in text.splitlines(keepends=True):
        for part in (line[start : start + size] for start in range(0, len(line), size)):
            if len(pieces[-1]) + len(part) > size:
                pieces.append("")
            pieces[-1] += part
    return [piece for piece in pieces if piece.strip()]


def chunk_size(name: str, options: dict, default: int) -> int:
    """Characters of a chunk of a source, at most; UserError for a size below one or an option that the source does not have."""
    check_options(name, options)
    size = options.get("chunk_characters")
    if size is not None and size < 1:
        raise UserError(f"Option 'chunk_characters' of data {name} must be at least 1, not {size}.")
    return default if size is None else size


def chunks_of_split(texts: list[str], size: int, split: str, seed: int) -> list[Example]:
    """All distinct chunks of a split, in an order drawn from the seed.

    Whole files go to one side, by the hash of their text; a chunk that both sides have (a licence header) is
    left out of the test side.
    """
    test_texts = held_out(texts)
    train = dict.fromkeys(c for text in texts if text not in test_texts for c in chunks(text, size))
    test = dict.fromkeys(c for text in texts if text in test_texts for c in chunks(text, size) if c not in train)
    pieces = list(test if split == "test" else train)
    order = np.random.default_rng([seed, split == "test"]).permutation(len(pieces))
    return [Example("", pieces[i]) for i in order]


def validate(options: dict) -> None:
    """Nothing, or UserError: unknown option, unreadable directory, or no source file in it."""
    chunk_size("codebase", options, CHUNK_CHARACTERS)
    read_texts(_directories(options))


def examples(options: dict, split: str, seed: int) -> list[Example]:
    """All distinct chunks of a split, in an order drawn from the seed."""
    size = chunk_size("codebase", options, CHUNK_CHARACTERS)
    return chunks_of_split(read_texts(_directories(options)), size, split, seed)
