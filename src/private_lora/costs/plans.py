"""What an encrypting backend plans for each product of a model: parameters and bytes, before anything is multiplied.

Parameters follow from the norms of the real weights' columns. All blocks are planned where the model is small enough for that
to take seconds; else the first one stands for the others. Without weights, random ones take their place, as in a run with
`weights: random`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from private_lora.core.errors import UserError
from private_lora.models.local import LocalModel
from private_lora.models.shapes import Architecture
from private_lora.specs.grouping import READS_BLOCK_INPUT, groups, joint_name
from private_lora.specs.quantization import Quantization

# Weights of a model whose blocks are all planned, and of a block that is planned as a whole: seconds of quantizing.
ALL_PLANNED, WHOLE_BLOCK = 2**27, 2**26
# Entries of a random matrix that stands for one of a larger block.
DRAWN = 2**24
REAL, RANDOM = "the model's own", "random"


@dataclass(frozen=True)
class PlannedProduct:
    """A product and what a backend plans for it.

    layer, phase: as in `costs.model.Product`. times: how often it is asked for in a step; the first block's q, k, v are not
    asked backward. held: how many such products the workers hold. plan: `backends.contract.Plan`; message_bytes: up and down,
    for the rows of a step. hint_bytes: of one.
    """

    layer: str
    phase: str
    times: int
    held: int
    plan: object
    message_bytes: tuple[int, int]
    hint_bytes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs."""
        return self.plan.inputs, self.plan.outputs


@dataclass(frozen=True)
class ModelPlan:
    """Planned products of a whole model. weights: whose norms decided. blocks: how many were looked at. columns: the same."""

    products: list[PlannedProduct]
    weights: str
    blocks: int
    model_blocks: int
    drawn_columns: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether every product was planned from its own weight, so that bytes are those of a run."""
        return self.blocks == self.model_blocks

    def of_each_shape(self) -> list:
        """One plan for each (inputs, outputs): the one that most products of that shape have, in what costs time."""
        found: dict[tuple[int, int], Counter] = {}
        plans = {}
        for p in self.products:
            key = p.shape, p.plan.parameters["ring_size"], p.plan.parameters["log2_q"], p.message_bytes
            found.setdefault(p.shape, Counter())[key] += p.held
            plans[key] = p.plan
        return [plans[counts.most_common(1)[0][0]] for counts in found.values()]

    def say(self) -> str:
        """A sentence on what the parameters were taken from."""
        blocks = "all" if self.is_exact else f"the first of its {self.model_blocks}"
        part = "; of wide layers a part of the columns" if self.drawn_columns else ""
        return f"column norms of {self.weights} weights, {blocks} blocks{part}"


def plan_model(model: LocalModel, backend, quantization: Quantization, rows: int, seed: int = 0) -> ModelPlan:
    """The plans of all products of a model. backend: a loaded `packed` backend. rows: tokens of a step.

    Raises UserError, naming the layer, where the backend refuses.
    """
    architecture = model.architecture
    kind = REAL if model.has_weights else RANDOM
    if architecture.block_weights > WHOLE_BLOCK and not model.has_weights:
        found = list(_drawn_products(architecture, quantization, seed))
        return _planned(found, 1, architecture, backend, quantization, rows, kind, drawn_columns=True)
    blocks = architecture.blocks if architecture.remote_weights <= ALL_PLANNED else 1
    found = _read_products(model, blocks, quantization, seed)
    return _planned(found, blocks, architecture, backend, quantization, rows, kind)


def _planned(found, blocks, architecture, backend, quantization, rows, kind, drawn_columns=False) -> ModelPlan:
    """found: block, layer, phase, integer weight and its number of outputs, of so many blocks."""
    standing = architecture.blocks // blocks  # blocks for which each looked at stands: 1, or all for the first
    products: list[PlannedProduct] = []
    for block, layer, phase, weight, outputs in found:
        try:
            plan = backend.plan(weight, quantization.activation_bits)
        except ValueError as error:
            raise UserError(f"layer {layer} {phase} of {architecture.name}: {error}") from None
        plan = replace(plan, outputs=outputs)  # of a matrix that stands for a wider one
        unasked = int(block == 0 and phase == "backward" and layer.split("+")[0] in READS_BLOCK_INPUT)
        sizes = backend.message_bytes(plan, rows), backend.hint_bytes(plan)
        products.append(PlannedProduct(layer, phase, standing - unasked, standing, plan, *sizes))
    return ModelPlan(products, kind, blocks, architecture.blocks, drawn_columns)


def _read_products(model: LocalModel, blocks: int, quantization: Quantization, seed: int) -> Iterator[tuple]:
    """Products of the first blocks from the model's weights, or those that `weights: random` draws for the seed."""
    from private_lora.models.stream import open_weights, remote_layers
    from private_lora.split.weights import backward_weight, forward_weight, input_output_weight

    kind = "pretrained" if model.has_weights else "random"
    frame, source, _ = open_weights(model.source, None, kind, seed, blocks)
    layers, short = remote_layers(frame), list(model.architecture.layers)
    for first in range(0, len(layers), len(short)):
        full = dict(zip(short, list(layers)[first : first + len(short)], strict=True))
        for names in groups(short, share_inputs=True):
            weights = [input_output_weight(layers[full[n]], source(f"{full[n]}.weight")) for n in names]
            joint, widths = np.concatenate(weights, axis=1), [weight.shape[1] for weight in weights]
            block, layer = first // len(short), joint_name(names)
            yield block, layer, "forward", forward_weight(joint, layer, widths, quantization).values, joint.shape[1]
            yield block, layer, "backward", backward_weight(joint, layer, quantization).values, joint.shape[0]


def _drawn_products(architecture: Architecture, quantization: Quantization, seed: int) -> Iterator[tuple]:
    """Products of one block from normal columns, whose norms vary little: as many as DRAWN allows of each."""
    from private_lora.split.weights import product_weight

    generator = np.random.Generator(np.random.PCG64(seed))
    for names in groups(architecture.layers, share_inputs=True):
        inputs, outputs = architecture.layers[names[0]][0], sum(architecture.layers[name][1] for name in names)
        for phase, k, d in (("forward", inputs, outputs), ("backward", outputs, inputs)):
            floats = generator.standard_normal((k, min(d, max(1, DRAWN // k))), dtype=np.float32)
            yield 0, joint_name(names), phase, product_weight(floats, phase, quantization).values, d
