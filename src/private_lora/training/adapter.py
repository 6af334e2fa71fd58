"""LoRA on a base model: a new adapter, one that fine-tuning wrote, or none."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from private_lora.core.errors import UserError
from private_lora.models.stream import remote_layers
from private_lora.specs.run import RunSpec

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def add_adapter(base: torch.nn.Module, spec: RunSpec) -> torch.nn.Module:
    """The base model with LoRA on the spec's linear layers, by default all but the output head, initialised from the seed.

    Raises UserError on a target that is none of them.
    """
    torch.manual_seed(spec.seed)
    if spec.lora_targets:
        _check_targets(base, spec.lora_targets)
    settings = {"r": spec.lora_rank, "lora_alpha": spec.lora_alpha, "lora_dropout": spec.lora_dropout}
    return _adapted(base, spec.lora_targets, **settings)


def _check_targets(base: torch.nn.Module, targets: list[str]) -> None:
    names = remote_layers(base)
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            known = dict.fromkeys(name.rpartition(".")[2] for name in names)
            raise UserError(f"lora_targets: the model has no linear layer {target!r}: its layers are {', '.join(known)}")


def without_adapter(base: torch.nn.Module) -> torch.nn.Module:
    """The base model as a peft model whose adapter takes no part."""
    model = _adapted(base, r=1)
    model.base_model.disable_adapter_layers()
    return model


def _adapted(base: torch.nn.Module, targets: list[str] | None = None, **settings) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    has_conv1d = any(isinstance(m, Conv1D) for m in base.modules())
    base.config.use_cache = False
    config = LoraConfig(target_modules=targets or "all-linear", fan_in_fan_out=has_conv1d, task_type="CAUSAL_LM", **settings)
    return get_peft_model(base, config)


def load_adapter(base: torch.nn.Module, directory: Path) -> torch.nn.Module:
    """The base model with the adapter in a directory; raises UserError if there is none, or it is that of another model."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    config, tensors = _read(directory)
    linear = set(remote_layers(base))
    try:
        model = get_peft_model(base, config)
    except ValueError:  # of a layer that the model does not have
        raise _misfit(directory, f"it adapts {', '.join(sorted(config.target_modules))}, which the model has not") from None
    adapted = {name.removeprefix("base_model.model.") for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    if not adapted <= linear:
        raise _misfit(directory, f"it adapts {', '.join(sorted(adapted - linear))}, which the backend does not compute")
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name in sorted(expected.keys() | tensors.keys()):
        there, here = (tuple(values[name].shape) if name in values else "missing" for values in (tensors, expected))
        if there != here:
            raise _misfit(directory, f"its tensor {name} is {there} and the model's {here}")
    set_peft_model_state_dict(model, tensors)
    return model


def _misfit(directory: Path, difference: str) -> UserError:
    return UserError(f"adapter {directory} does not fit: {difference}: give it the base model that it was trained on")


def _read(directory: Path):
    """Configuration and tensors in the directory of an adapter."""
    from peft import LoraConfig

    if not (directory / CONFIG).is_file() or not (directory / TENSORS).is_file():
        raise UserError(f"no {CONFIG} and {TENSORS} in {directory}: give the directory `adapter` that fine-tuning wrote")
    try:
        is_lora = json.loads((directory / CONFIG).read_text())["peft_type"] == "LORA"
        config = LoraConfig.from_pretrained(str(directory)) if is_lora else None
        tensors = load_file(directory / TENSORS)
    except (ValueError, TypeError, KeyError, OSError, SafetensorError) as error:
        raise UserError(f"cannot read the adapter in {directory}: {error}") from None
    if config is None or config.use_dora or config.modules_to_save:
        raise UserError(f"the adapter in {directory} is no plain LoRA: give one that fine-tuning wrote")
    config.base_model_name_or_path = None  # a name is no evidence: shapes are compared
    return config, tensors
