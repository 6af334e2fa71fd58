"""Shapes of a model's frozen linear layers and its sizes, read from its config.json alone. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.models import gguf
from private_lora.models.lookup import built_in_directory
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS

GATED_TYPES = ("llama", "mistral", "qwen2")  # blocks of q, k, v, o, gate, up, down


@dataclass(frozen=True)
class Architecture:
    """One decoder-only transformer.

    blocks: their number. layers: [inputs, outputs] of the frozen linear layers of one block, by short name. hidden: width of
    the residual stream. vocabulary: tokens. tied: whether the head is the embedding. positions: rows of a learned position
    embedding, 0 for rotary ones. block_vectors: weights of one block that belong to no matrix (norms, biases).
    """

    name: str
    blocks: int
    layers: dict[str, list[int]]
    hidden: int
    vocabulary: int
    tied: bool
    positions: int
    block_vectors: int
    final_vectors: int

    @property
    def block_weights(self) -> int:
        """Weights of one block's frozen matrices."""
        return sum(inputs * outputs for inputs, outputs in self.layers.values())

    @property
    def remote_weights(self) -> int:
        """Weights that workers hold: the matrices of all blocks."""
        return self.blocks * self.block_weights

    @property
    def client_weights(self) -> int:
        """Weights that stay with the client: embeddings, head, norms, biases."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2) + self.positions * self.hidden
        return embeddings + self.blocks * self.block_vectors + self.final_vectors

    @property
    def weights(self) -> int:
        """All weights of the base model."""
        return self.remote_weights + self.client_weights

    def adapter_weights(self, rank: int) -> int:
        """Weights of a LoRA adapter of this rank on every frozen matrix."""
        return self.blocks * sum(rank * (inputs + outputs) for inputs, outputs in self.layers.values())


def architecture_of(model: str) -> Architecture:
    """The architecture of a built-in name or a local model directory; raises UserError, in one sentence, on anything else."""
    directory = _directory(model)
    try:
        config = json.loads((directory / "config.json").read_text())
        kind = config["model_type"]
        if kind == "gpt2":
            return _gpt2(model, config)
        if kind in GATED_TYPES:
            return _gated(model, config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"config.json in {directory} cannot be read as a model's: {type(error).__name__} {error}") from None
    raise UserError(f"{model} is of type {kind!r}: known are gpt2, {', '.join(GATED_TYPES)}")


def _directory(model: str) -> Path:
    built_in = built_in_directory(model)
    if built_in is not None:
        return built_in
    if model.endswith(gguf.SUFFIX) and Path(model).expanduser().is_file():
        return gguf.converted_directory(Path(model).expanduser())
    if not model or not (Path(model).expanduser() / "config.json").is_file():
        check_name("architecture", model, [*ARCHITECTURES, *BUILT_IN_MODELS, "a directory with a config.json"])
    return Path(model).expanduser()


def _gated(name: str, config: dict) -> Architecture:
    hidden, inner, heads = (config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config.get("num_key_value_heads", heads) * head
    layers = {"q": [hidden, queries], "k": [hidden, keys], "v": [hidden, keys], "o": [queries, hidden]}
    layers |= {"gate": [hidden, inner], "up": [hidden, inner], "down": [inner, hidden]}
    biased = config["model_type"] == "qwen2" or config.get("attention_bias", False)
    vectors = 2 * hidden + (queries + 2 * keys if biased else 0)
    tied = config.get("tie_word_embeddings", False)
    return Architecture(
        name, config["num_hidden_layers"], layers, hidden, config["vocab_size"], tied, 0, vectors, final_vectors=hidden
    )


def _gpt2(name: str, config: dict) -> Architecture:
    hidden = config["n_embd"]
    inner = config.get("n_inner") or 4 * hidden
    layers = {"attn": [hidden, 3 * hidden], "attn_proj": [hidden, hidden], "fc": [hidden, inner], "proj": [inner, hidden]}
    vectors = 4 * hidden + sum(outputs for _, outputs in layers.values())
    positions = config["n_positions"]
    return Architecture(
        name, config["n_layer"], layers, hidden, config["vocab_size"], True, positions, vectors, final_vectors=2 * hidden
    )
