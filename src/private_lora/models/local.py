"""What is known of a model without a download: its config.json and, where they are on this machine, its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from private_lora.core.errors import UserError, first_line
from private_lora.models import gguf
from private_lora.models.lookup import SMOLLM2, gguf_path, local_directory
from private_lora.models.shapes import Architecture, architecture_of
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS


@dataclass(frozen=True)
class LocalModel:
    """A model that is described on this machine.

    source: what `models.stream.open_weights` takes. architecture: under the name that was asked for. has_weights: whether its
    weights are here too; else random ones stand for them.
    """

    source: str
    architecture: Architecture
    has_weights: bool


@contextmanager
def local_model(name: str, revision: str | None = None) -> Iterator[LocalModel]:
    """What is known of a built-in name, a directory, a GGUF file or a hub id in the local cache; nothing is downloaded.

    Of a GGUF file that was not converted yet, the header alone is read. Raises UserError, in one sentence, where there is no
    configuration.
    """
    file = None if name == SMOLLM2 else gguf_path(name)
    if file is not None and not (gguf.converted_directory(file) / gguf.ORIGIN).is_file():
        with tempfile.TemporaryDirectory() as directory:
            _write_header(file, directory)
            yield _described(name, Path(directory), has_weights=False)
        return
    if name in ARCHITECTURES or name in BUILT_IN_MODELS:
        yield LocalModel(name, architecture_of(name), has_weights=name not in ARCHITECTURES)
        return
    directory = gguf.converted_directory(file) if file is not None else _directory(name, revision)
    yield _described(name, directory, any(directory.glob("*.safetensors")))


def _described(name: str, directory: Path, has_weights: bool) -> LocalModel:
    return LocalModel(str(directory), replace(architecture_of(str(directory)), name=name), has_weights)


def _directory(name: str, revision: str | None) -> Path:
    """Of a directory with a config.json, or of a hub id that was downloaded before."""
    try:
        directory = local_directory(name)
    except UserError as error:
        hint = f"for a cost, the name of an architecture is enough: {', '.join(ARCHITECTURES)}"
        raise UserError(f"{error}; {hint}") from None
    return directory if directory is not None else _cached(name, revision)


def _cached(name: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        found = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        found = None
    if not isinstance(found, str):
        raise UserError(
            f"config.json of {name} is not in the local cache, and an estimate downloads nothing: give a directory that holds "
            f"its config.json, or an architecture of its size: {', '.join(ARCHITECTURES)}"
        )
    return Path(found).parent


def _write_header(file: Path, directory: str) -> None:
    """The config.json that the header of a GGUF file describes."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(directory)
    except Exception as error:  # readers of broken files raise many kinds
        raise UserError(
            f"cannot read the header of {file} ({first_line(error)}): give a GGUF file of a Llama-type model"
        ) from None
