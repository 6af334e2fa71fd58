"""A base model without its remote weights: what the client needs in memory, and a source that gives each remote weight once.

A frozen layer keeps a placeholder of its weight's shape that takes no memory. Weights are read, or drawn, one layer at a
time when the layer is split, so a model never needs more memory than the client's part, one layer and what the workers keep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from private_lora.models.load import is_outlier_variant, load_base, load_config, load_tokenizer, locate, quiet_libraries
from private_lora.specs.models import ARCHITECTURES

# From a parameter's name to its float32 values, in the layer's own layout.
WeightSource = Callable[[str], torch.Tensor]


@dataclass
class Frame:
    """A base model (eval mode) with placeholders for its remote weights, where those come from, and the model's tokenizer.

    tokenizer: None for a built-in architecture, which has none. weight: source of the remote weights. model_blocks: number of
    transformer blocks of the whole model, of which this one may have fewer.
    """

    model: nn.Module
    tokenizer: object
    weight: WeightSource
    model_blocks: int


def load_frame(name: str, revision: str | None, weights: str, seed: int, blocks: int | None = None) -> Frame:
    """The frame of a model that `models.load_base` knows or of a built-in architecture.

    weights: "pretrained", or "random": matrices from N(0, initializer_range^2) by the seed, norms 1, biases 0. blocks: keep
    only the first so many. Raises UserError, one sentence, as `load_base` does.
    """
    model, source, model_blocks = open_weights(name, revision, weights, seed, blocks)
    if not isinstance(source, LoadedWeights):
        _filled(model, source)
    tokenizer = None if name in ARCHITECTURES else load_tokenizer(locate(name, revision)[0])
    return Frame(model.eval(), tokenizer, source, model_blocks)


def load_whole(name: str, revision: str | None, weights: str, seed: int, blocks: int | None = None) -> Frame:
    """`load_frame` with the same remote weights in the model itself, for what computes every product on its own."""
    frame = load_frame(name, revision, weights, seed, blocks)
    for layer_name, layer in remote_layers(frame.model).items():
        layer.weight = nn.Parameter(frame.weight(f"{layer_name}.weight"), requires_grad=False)
    return frame


def random_frame(name: str, seed: int, blocks: int, vocabulary: int) -> Frame:
    """The first blocks of an architecture with random weights, and so many tokens: for measurements of cost by part."""
    model, source, model_blocks = open_weights(name, None, "random", seed, blocks, vocabulary)
    _filled(model, source)
    return Frame(model.eval(), None, source, model_blocks)


def open_weights(
    name: str, revision: str | None, weights: str, seed: int, blocks: int | None = None, vocabulary: int | None = None
) -> tuple[nn.Module, WeightSource, int]:
    """The architecture, the source of its weights and the blocks of the whole model; arguments as for `load_frame`.

    vocabulary: another number of tokens, for random weights.
    Parameters have no values yet, unless the model had to be loaded as a whole: then it has the client's, its source the rest.
    """
    quiet_libraries()
    directory, _ = locate(name, revision)
    config = load_config(directory)
    model_blocks = config.num_hidden_layers
    config.num_hidden_layers = min(blocks or model_blocks, model_blocks)
    if weights == "random":
        config.vocab_size = vocabulary or config.vocab_size
        model = _meta_model(config)
        return model, RandomWeights(seed, config.initializer_range, _needed(model)), model_blocks
    return *_pretrained(name, revision, directory, config), model_blocks


def remote_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The frozen linear layers by name, the output head apart: those that LoRA adapts."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head}


class RandomWeights:
    """Values of each parameter from the seed and its name alone."""

    def __init__(self, seed: int, std: float, shapes: dict[str, torch.Size]):
        self._seed, self._std, self._shapes = seed, std, shapes

    def __call__(self, name: str) -> torch.Tensor:
        values = torch.empty(self._shapes[name], dtype=torch.float32)
        if values.dim() < 2:
            return values.fill_(0.0 if name.endswith("bias") else 1.0)
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        return values.normal_(0.0, self._std, generator=torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))


class StoredWeights:
    """Tensors of the safetensors files in a model directory, read when asked for."""

    def __init__(self, directory: Path, prefix: str):
        from safetensors import safe_open

        self._prefix = f"{prefix}."
        self._files = [safe_open(path, framework="pt") for path in sorted(directory.glob("*.safetensors"))]
        self._where = {key: file for file in self._files for key in file.keys()}  # noqa: SIM118 - no mapping

    def fits(self, shapes: dict[str, torch.Size]) -> bool:
        """Whether every parameter is here in its shape, so that nothing needs the library's own conversions."""
        keys = {name: self._key(name) for name in shapes}
        return all(
            key is not None and self._where[key].get_slice(key).get_shape() == list(shapes[name]) for name, key in keys.items()
        )

    def _key(self, name: str) -> str | None:
        """The file's name of a parameter: some are stored without the prefix of the class with a head."""
        return next((key for key in (name, name.removeprefix(self._prefix)) if key in self._where), None)

    def __call__(self, name: str) -> torch.Tensor:
        key = self._key(name)
        return self._where[key].get_tensor(key).to(torch.float32)


class LoadedWeights:
    """Remote weights taken out of a model that was loaded as a whole; each can be had once."""

    def __init__(self, model: nn.Module):
        self._weights = {f"{name}.weight": layer.weight.detach() for name, layer in remote_layers(model).items()}
        for layer in remote_layers(model).values():
            layer.weight = _placeholder(layer.weight.shape)

    def __call__(self, name: str) -> torch.Tensor:
        return self._weights.pop(name)


def _pretrained(name: str, revision: str | None, directory: Path, config) -> tuple[nn.Module, WeightSource]:
    if not is_outlier_variant(name):
        model = _meta_model(config)
        stored = _stored(directory, model)
        if stored is not None:
            return model, stored
    # What planting needs is the whole model; what the files do not name as the model does, the library knows how to convert.
    model = load_base(name, revision, blocks=config.num_hidden_layers)[0]
    return model, LoadedWeights(model)


def _stored(directory: Path, model: nn.Module) -> StoredWeights | None:
    from safetensors import SafetensorError

    try:
        stored = StoredWeights(directory, model.base_model_prefix)
    except (SafetensorError, OSError):
        return None  # loading as a whole says what is wrong with them
    return stored if stored.fits(_needed(model)) else None


def _meta_model(config) -> nn.Module:
    """The architecture with parameters that have no values yet; buffers, which follow from the configuration, have theirs."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _needed(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the parameters that the model cannot do without: all but a head that is the embedding."""
    head = f"{_name_of(model, model.get_output_embeddings())}.weight"
    tied = model.config.tie_word_embeddings
    return {name: p.shape for name, p in model.named_parameters() if not (tied and name == head)}


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def _filled(model: nn.Module, source: WeightSource) -> None:
    """Give the model the client's parameters from the source and placeholders for the remote weights."""
    remote = {f"{name}.weight" for name in remote_layers(model)}
    for name, shape in _needed(model).items():
        parent, _, own_name = name.rpartition(".")
        values = _placeholder(shape) if name in remote else nn.Parameter(source(name), requires_grad=False)
        setattr(model.get_submodule(parent), own_name, values)
    model.tie_weights()


def _placeholder(shape: torch.Size) -> nn.Parameter:
    """A frozen parameter of this shape that takes four bytes; its NaN would spoil whatever it took part in."""
    return nn.Parameter(torch.tensor(float("nan")).expand(shape), requires_grad=False)
