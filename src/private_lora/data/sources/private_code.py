"""Source code that no base model here was trained on, cut into chunks as `codebase` cuts it, but longer ones.

Without options, the source of this package: it was written after the data of `smollm2` was collected, and the built-in models
saw the standard library alone. No package of somebody else's that is installed with it can promise that: nearly all were public
before, in some version. Its text is that of the commit in a run's sidecar. `directory` is code of your own; `packages` are
installed Python packages by the names under which they are imported. A base model that is newer than they are, or a hub's, may
have seen them.
"""

from importlib.util import find_spec
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.paths import PACKAGE
from private_lora.data.examples import Example
from private_lora.data.sources.codebase import chunk_size, chunks_of_split, read_texts

CHUNK_CHARACTERS = 1000  # about 300 tokens of a large vocabulary


def _directories(options: dict) -> list[Path]:
    directory, packages = options.get("directory"), options.get("packages")
    if directory is not None and packages is not None:
        raise UserError("Data private_code takes either the option directory or packages, not both.")
    if packages == []:
        raise UserError("Option 'packages' of data private_code names no package.")
    if packages is not None:
        return [_installed(name) for name in packages]
    return [PACKAGE if directory is None else Path(directory)]


def _installed(name: object) -> Path:
    """The directory of a package by the name under which it is imported; UserError if there is none."""
    found = find_spec(name) if isinstance(name, str) and name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"Option 'packages' of data private_code: {name!r} is no installed package with a directory of sources."
        )
    return Path(next(iter(found.submodule_search_locations)))


def validate(options: dict) -> None:
    """Nothing, or UserError: unknown option, package that is not installed, unreadable directory, or no source file in it."""
    chunk_size("private_code", options, CHUNK_CHARACTERS)
    read_texts(_directories(options))


def examples(options: dict, split: str, seed: int) -> list[Example]:
    """All distinct chunks of a split, in an order drawn from the seed."""
    size = chunk_size("private_code", options, CHUNK_CHARACTERS)
    return chunks_of_split(read_texts(_directories(options)), size, split, seed)
