"""Which layers of a peft model can be remote, refusals of models whose layers cannot, and their exchange for remote ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from private_lora.core.errors import UserError
from private_lora.split.linear import PEFT_PREFIX, SplitLinear, linear_layers, replace_layer

# Their values are float32 values, so quantizing them is what a worker does that reads the same file.
EXACT_IN_FLOAT32 = (torch.float32, torch.bfloat16, torch.float16)
BASE = ".base_layer"


@dataclass(frozen=True)
class Layers:
    """Linear layers of a peft model by the base model's names for them.

    remote: frozen, and to be computed elsewhere, whether LoRA adapts them or not. local: names of those that stay: the output
    head, and what is trained itself.
    """

    remote: dict[str, nn.Module]
    local: list[str]

    def weight(self, name: str) -> torch.Tensor:
        """A remote layer's weight, float32 on the CPU, by its parameter's name in the base model."""
        return self.remote[name.removesuffix(".weight")].weight.detach().to("cpu", torch.float32)


def layers_of(peft_model: nn.Module) -> Layers:
    """The linear layers of a peft model; raises UserError, one sentence, on a model that cannot be split as it is."""
    _check_model(peft_model)
    head = peft_model.get_output_embeddings()
    remote, local = {}, []
    for name, outer, layer in linear_layers(peft_model.get_base_model()):
        if outer is head or layer.weight.requires_grad:
            local.append(name)
        else:
            _check_layer(name, layer)
            remote[name] = layer
    if not remote:
        raise UserError("the model has no frozen linear layer to compute elsewhere: give a peft LoRA model of a Llama or GPT-2")
    _check_unshared(peft_model, remote)
    return Layers(remote, local)


def exchange(peft_model: nn.Module, split: dict[str, SplitLinear]) -> None:
    """Put remote layers, by the base model's names, in the place of the model's own, whose weights are let go."""
    from peft.tuners.lora import LoraLayer

    base = peft_model.get_base_model()
    for name, layer in split.items():
        _without_weight(layer)
        module = replace_layer(base, name, layer)
        if isinstance(module, LoraLayer):
            module.merge = _refuse_merging


def _without_weight(layer: SplitLinear) -> None:
    """Give a layer a weight of its shape that takes four bytes, for peft to inspect.

    It is no parameter, so that nothing writes it to a file as if it were one; its NaN would spoil whatever it took part in.
    """
    weight = layer.weight
    del layer.weight
    layer.weight = torch.tensor(float("nan"), dtype=weight.dtype, device=weight.device).expand(weight.shape)


def _refuse_merging(*_, **__):
    raise UserError(
        "the adapter cannot be merged into weights that are elsewhere: save it, and load it on the base model with peft"
    )


def _check_model(peft_model: nn.Module) -> None:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    if not isinstance(peft_model, PeftModel):
        raise UserError(f"a {type(peft_model).__name__} is no peft model: give what peft's get_peft_model returns")
    kinds = {str(config.peft_type.value) for config in peft_model.peft_config.values()}
    if kinds != {"LORA"}:
        raise UserError(f"the model's adapters are {', '.join(sorted(kinds))}: only LoRA can be trained on remote layers")
    if any(isinstance(module, SplitLinear) for module in peft_model.modules()):
        raise UserError("this model was made private before: load the base model again to begin another session")
    for name, module in peft_model.named_modules():
        if isinstance(module, LoraLayer):
            _check_adapter(name.removeprefix(PEFT_PREFIX), module)


def _check_adapter(name: str, layer) -> None:
    if layer.merged:
        raise UserError(f"layer {name}: its adapter is merged into the weight: call unmerge_adapter() first")
    if layer.lora_variant:
        kind = type(next(iter(layer.lora_variant.values()))).__name__
        raise UserError(f"layer {name}: {kind} needs the weight at every step: take plain LoRA (without use_dora and the like)")


def _check_layer(name: str, layer: nn.Module) -> None:
    kind = type(layer).__name__
    if kind not in ("Linear", "Conv1D"):
        raise UserError(f"layer {name} is a {kind}: only torch Linear and GPT-2's Conv1D can be remote, so load it unquantized")
    if layer.weight.is_meta:
        raise UserError(f"layer {name} has no weight in memory: load the model without offloading (device_map)")
    if layer.weight.dtype not in EXACT_IN_FLOAT32:
        raise UserError(f"layer {name} holds {layer.weight.dtype}: load the model in float32, bfloat16 or float16")


def _check_unshared(peft_model: nn.Module, remote: dict[str, nn.Module]) -> None:
    """Nothing; raises UserError if a layer stands in two places, of which only one would be exchanged."""
    places = Counter(id(module) for _, module in peft_model.named_modules(remove_duplicate=False))
    shared = next((name for name, layer in remote.items() if places[id(layer)] > 1), None)
    if shared is not None:
        raise UserError(f"layer {shared} stands in several places of the model: models that share layers cannot be split")
