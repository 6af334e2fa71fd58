"""Split linear layers: frozen products run at a backend, forward and backward; everything else stays with the client."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from private_lora.core.errors import UserError
from private_lora.core.memory import give_back_memory
from private_lora.models.stream import WeightSource
from private_lora.specs.grouping import groups, joint_name
from private_lora.split.product import RemoteProduct
from private_lora.split.session import Session
from private_lora.split.weights import backward_weight, forward_weight, input_output_weight

PEFT_PREFIX = "base_model.model."


class _GroupFunction(torch.autograd.Function):
    """All y_i = x W_i of a group, and dx = sum of g_i W_i^T, at the backend; the W_i are frozen, so they have no gradient."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return group.outputs(x)

    @staticmethod
    def backward(ctx, *gradients):
        # Not called for the first q, k, v: their input needs no gradient, as nothing before them is trained.
        # Of an output that nothing was computed from, torch passes zeros.
        return ctx.group.input_gradient(gradients), None


class LayerGroup:
    """Layers with the same input, often only one: a single product forward and a single one backward serve them all.

    Forward, each weight is quantized by itself and stands beside the others, so outputs are those of separate layers.
    Backward, the gradients form one row, quantized jointly, and the weights one matrix: the server adds up dx itself.

    weights: float32, inputs x outputs each. inputs: their number. widths: numbers of outputs. Raises UserError, naming the
    group, if the backend refuses a weight. backward: False for a model that only answers, which then has no product for it.
    """

    def __init__(self, session: Session, weights: list[np.ndarray], name: str, backward: bool = True):
        self._session = session
        self.inputs, self.widths = len(weights[0]), [weight.shape[1] for weight in weights]
        joint = np.concatenate(weights, axis=1)
        self._forward = RemoteProduct(session, joint, forward_weight(joint, name, self.widths, session.quantization))
        self._backward = self._backward_product(joint, name) if backward else None
        self._forget()

    def _backward_product(self, joint: np.ndarray, name: str) -> RemoteProduct:
        try:
            return RemoteProduct(self._session, joint.T, backward_weight(joint, name, self._session.quantization))
        except UserError as error:
            hint = ", or share_inputs: false, for fewer inputs" if len(self.widths) > 1 else ""
            raise UserError(f"{error}{hint}") from None

    def _forget(self) -> None:
        self._input, self._state, self._waiting = None, None, {}

    def output(self, member: int, x: torch.Tensor) -> torch.Tensor:
        """x W of one member (by position) for x of shape (..., inputs).

        The first member to ask computes for all; the outputs wait, with x, until each member has taken its own. One that asks
        twice, with another x, with x modified in place or with a new need for gradients, makes a computation of its own.
        """
        version = None if x.is_inference() else x._version
        state = version, torch.is_grad_enabled() and x.requires_grad
        if x is not self._input or state != self._state or member not in self._waiting:
            self._forget()
            self._waiting = dict(enumerate(_GroupFunction.apply(x, self)))
            self._input, self._state = x, state
        y = self._waiting.pop(member)
        if not self._waiting:
            self._forget()
        return y

    def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The products of all members, without gradients."""
        y = self._session.answer(self, lambda: self._forward(_rows(x)))
        parts = np.split(y, np.cumsum(self.widths)[:-1], axis=1)
        return tuple(_tensor(part, x) for part in parts)

    def input_gradient(self, gradients: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Gradient of the shared input from those of all members' outputs; counts rows, and those that are zero throughout."""
        if self._backward is None:
            raise RuntimeError("this model was split for answers alone: it has no products backward")
        rows = np.concatenate([_rows(gradient) for gradient in gradients], axis=1)
        is_zero = ~rows.any(axis=1)
        timings, probe = self._session.timings, self._session.probe
        timings.backward_rows += len(rows)
        timings.zero_backward_rows += int(is_zero.sum())
        gradient = self._backward(rows)
        if probe is not None:
            probe.add(gradient, is_zero, self._backward.terms)
        return _tensor(gradient, gradients[0])


def _rows(x: torch.Tensor) -> np.ndarray:
    """A tensor's last axis as rows, float32 T x K."""
    return x.detach().reshape(-1, x.shape[-1]).to("cpu", torch.float32).numpy()


def _tensor(rows: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Rows in the shape, type and device of another tensor, but for the size of the last axis."""
    y = torch.from_numpy(np.ascontiguousarray(rows))
    return y.reshape(*like.shape[:-1], -1).to(like.device, like.dtype)


class SplitLinear(nn.Module):
    """A frozen linear layer whose weight (inputs x outputs) is at the server; the bias, if any, is added by the client.

    `weight` keeps its shape, for peft to inspect, and has no values: see `frame`.
    """

    def __init__(self, base: nn.Module, group: LayerGroup, member: int):
        super().__init__()
        self.weight, self.bias = base.weight, base.bias
        self.in_features, self.out_features = group.inputs, group.widths[member]
        self._group, self._member = group, member

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x W + b for x of shape (..., inputs)."""
        y = self._group.output(self._member, x)
        return y if self.bias is None else y + self.bias


def split_model(
    peft_model: nn.Module, session: Session, share_inputs: bool, source: WeightSource, backward: bool = True
) -> int:
    """Number of frozen linear layers in a peft model, with or without LoRA, that now call the session's backend; in place.

    share_inputs: whether layers with the same input are one remote call. source: gives each layer's weight by the base model's
    name for it, when its turn comes. backward: whether gradients are to be sent back through them. Raises UserError on a layer
    that cannot be split, or whose weight the backend refuses.
    """
    base, head = peft_model.get_base_model(), peft_model.get_output_embeddings()
    layers = {name: layer for name, outer, layer in linear_layers(base) if outer is not head}
    for name, layer in split_layers(layers, session, share_inputs, source, backward):
        replace_layer(base, name, layer)
    return len(layers)


def linear_layers(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Name, what stands there (under LoRA: peft's layer) and the linear layer; not those that LoRA itself is made of."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import AuxiliaryTrainingWrapper
    from transformers.pytorch_utils import Conv1D

    for own_name, child in module.named_children():
        layer = child.base_layer if isinstance(child, LoraLayer) else child
        if isinstance(layer, (nn.Linear, Conv1D)):
            yield f"{path}{own_name}", child, layer
        elif not isinstance(child, (LoraLayer, AuxiliaryTrainingWrapper)):
            yield from linear_layers(child, f"{path}{own_name}.")


def replace_layer(base: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """What stood under this name in the base model of a peft model, or peft's layer around it; `layer` is there now."""
    from peft.tuners.lora import LoraLayer

    module = base.get_submodule(name)
    if isinstance(module, LoraLayer):
        module.base_layer = layer
    else:
        parent, _, own_name = name.rpartition(".")
        setattr(base.get_submodule(parent), own_name, layer)
    return module


def split_layers(
    layers: dict[str, nn.Module], session: Session, share_inputs: bool, source: WeightSource, backward: bool = True
) -> Iterator[tuple[str, SplitLinear]]:
    """For each layer, one group after the other, its name and what calls the session's backend in its place.

    layers: by the base model's names; other arguments and errors as for `split_model`.
    """
    for names in groups(layers, share_inputs):
        weights = [input_output_weight(layers[name], source(f"{name}.weight")) for name in names]
        group = LayerGroup(session, weights, joint_name(names), backward)
        # Quantizing and preparing left holes of the size of float32 weights and masks.
        give_back_memory()
        for member, name in enumerate(names):
            yield name, SplitLinear(layers[name], group, member)


def calibrate(
    peft_model: nn.Module, session: Session, batch_size: int, sequence_length: int, seed: int, begins: bool = True
) -> None:
    """Set the ranges of static quantizers by one pass, forward and backward, on random token ids and labels.

    As the reference implementation does (the inputset of its notebooks, given to `LoraTrainer.compile`). begins: but each row
    starts with the begin token, as in training: the massive activations of large models sit there. The batch size is the
    training's, because the loss is a mean over tokens and so sets the size of gradients. In float32, without dropout;
    gradients are dropped.
    """
    generator = torch.Generator().manual_seed(seed)
    vocabulary = peft_model.get_input_embeddings().weight.shape[0]
    shape = (batch_size, sequence_length)
    tokens = torch.randint(vocabulary, shape, generator=generator)
    labels = torch.randint(vocabulary, shape, generator=generator)
    begin = peft_model.config.bos_token_id
    if begins and begin is not None:
        tokens[:, 0] = begin
    was_training = peft_model.training
    session.calibrating = True
    peft_model.eval()
    try:
        peft_model(input_ids=tokens, labels=labels).loss.backward()
    finally:
        session.calibrating = False
        peft_model.train(was_training)
        peft_model.zero_grad()
    for product in session.products:
        # The first layers' backward is never called, neither here nor in training.
        product.calibrated_range = product.calibrated_range or (0.0, 0.0)
