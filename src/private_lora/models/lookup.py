"""Where a model's files are, by its name: built-in, a local directory, or a hub id. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.paths import RESOURCES
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS

OUTLIER_SUFFIX = "-outlier"


def built_in_directory(name: str) -> Path | None:
    """Where a built-in model or architecture lies; None for any other name."""
    if name in ARCHITECTURES:
        return RESOURCES / "architectures" / name
    return RESOURCES / name.removesuffix(OUTLIER_SUFFIX) if name in BUILT_IN_MODELS else None


def local_directory(name: str) -> Path | None:
    """The local directory of a model, checked; None for a hub id, which is not looked up.

    Raises UserError on a directory that is missing or holds no model, and on a name that is neither built-in nor a hub id.
    """
    built_in = built_in_directory(name)
    if built_in is not None:
        return _checked_built_in(built_in)
    path = Path(name).expanduser()
    # `resources/typo` has the form of a hub id, but whoever has a directory `resources` did not mean one.
    means_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if means_path or path.is_dir() or Path(path.parts[0]).is_dir():
        return checked_directory(path, name)
    if "/" not in name:
        raise UserError(
            f"unknown model {name!r}: known are {', '.join(BUILT_IN_MODELS)}, "
            "a directory starts with ./ and a hub id has the form owner/name"
        )
    return None


def checked_directory(directory: Path, name: str) -> Path:
    """The directory, if it holds a Hugging Face model; UserError otherwise."""
    if not directory.is_dir():
        raise UserError(f"model {name!r}: there is no directory {directory}: check the path")
    if not (directory / "config.json").is_file():
        raise UserError(f"model {name!r}: no config.json in {directory}: give a directory written by save_pretrained")
    return directory


def _checked_built_in(directory: Path) -> Path:
    if not (directory / "config.json").is_file():
        raise UserError(
            f"no built-in model at {directory}: run from a clone of the repository, "
            f"or make it with `private-lora pretrain --preset {directory.name} --out {directory}`"
        )
    return directory
