"""What a worker holds: the weights of its layers, quantized once, as servers of a backend."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from private_lora.backends import load as load_backend
from private_lora.backends.base import Backend, Server
from private_lora.errors import UserError
from private_lora.frame import WeightSource, give_back_memory, open_weights, remote_layers
from private_lora.network.settings import Settings, check_remote, model_identity, plan_json
from private_lora.products import ProductWeight, backward_weight, forward_weight, groups, input_output_weight, joint_name
from private_lora.registry import ACTIVATION_QUANTIZERS, BACKENDS, WEIGHT_QUANTIZERS, check_name
from private_lora.session import Quantization
from private_lora.spec import check_bits

BLOCK = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class WorkerSpec:
    """Which layers of which model a worker holds, and how it quantizes them. Fields as in `RunSpec`.

    layers: transformer blocks such as `0-7`, `3` or `0-3,8-11`; empty for all. seed: of random weights.
    """

    model: str
    backend: str
    layers: str = ""
    revision: str | None = None
    weights: str = "pretrained"
    seed: int = 0
    blocks: int | None = None
    backend_options: dict = field(default_factory=dict)
    device: str = "cpu"
    activation_bits: int | None = None
    weight_bits: int | None = None
    weight_quantizer: str = "static_per_channel"
    constant_rows: str = "exact"
    share_inputs: bool = True

    def check(self) -> None:
        """Nothing; raises UserError on what cannot be served."""
        check_remote(self.backend)
        check_name("weight quantizer", self.weight_quantizer, WEIGHT_QUANTIZERS)
        check_name("constant_rows", self.constant_rows, ("exact", "reference"))
        check_name("weights", self.weights, ("pretrained", "random"))
        if BACKENDS[self.backend].quantized:
            check_bits("activation_bits", self.activation_bits)
            check_bits("weight_bits", self.weight_bits)
        elif self.activation_bits is not None or self.weight_bits is not None:
            raise UserError(f"backend {self.backend!r} does not quantize: leave out activation and weight bits")

    @property
    def quantization(self) -> Quantization:
        """For weights; what quantizes activations is the client's business."""
        return Quantization(
            ACTIVATION_QUANTIZERS[0], self.weight_quantizer, self.activation_bits, self.weight_bits, self.constant_rows
        )


@dataclass(frozen=True)
class HeldProduct:
    """One product, ready to multiply, with what the handshake says of it."""

    name: str
    weight_sha256: bytes
    plan: str
    server: Server


class Held:
    """All products of a worker by name, its settings, and the public material of its clients."""

    def __init__(self, settings: Settings, backend: Backend, products: dict[str, HeldProduct]):
        self.settings, self.backend, self.products = settings, backend, products
        self._sessions_with: Counter[bytes] = Counter()

    def accept(self, material) -> None:
        """Give a client's public material to every server."""
        self._sessions_with[material.key_id] += 1
        for product in self.products.values():
            product.server.accept(material)

    def release(self, material) -> None:
        """Take it back when the last session that sent it has ended; None is of a session that sent none."""
        if material is None:
            return
        self._sessions_with[material.key_id] -= 1
        if not self._sessions_with[material.key_id]:
            del self._sessions_with[material.key_id]
            for product in self.products.values():
                product.server.release(material)


def hold(spec: WorkerSpec, progress=None) -> Held:
    """Load, quantize and keep the layers of a spec, one group of layers after the other.

    progress: called with each product's name. Raises UserError on a model that cannot be loaded, layers that it does not have,
    or a weight that the backend refuses.
    """
    spec.check()
    model, source, _ = open_weights(spec.model, spec.revision, spec.weights, spec.seed, spec.blocks)
    layers = remote_layers(model)
    chosen = _chosen(list(layers), spec.layers)
    backend = load_backend(spec.backend, device=spec.device, **spec.backend_options)
    products = {}
    for names in groups(chosen, spec.share_inputs):
        for weight in _weights(names, layers, source, spec.quantization):
            products[weight.name] = _product(backend, weight, spec.activation_bits)
            if progress is not None:
                progress(weight.name)
        # Quantizing left holes of the size of float32 weights.
        give_back_memory()
    identity = model_identity(spec.model, spec.revision, spec.weights, spec.seed)
    return Held(Settings.of(spec, identity), backend, products)


def _weights(names: list[str], layers: dict, source: WeightSource, quantization: Quantization) -> Iterator[ProductWeight]:
    """Both products of one group, the way the client makes them."""
    weights = [input_output_weight(layers[name], source(f"{name}.weight")) for name in names]
    joint = np.concatenate(weights, axis=1)
    widths, name = [weight.shape[1] for weight in weights], joint_name(names)
    del weights
    yield forward_weight(joint, name, widths, quantization)
    yield backward_weight(joint, name, quantization)


def _product(backend: Backend, weight: ProductWeight, activation_bits: int | None) -> HeldProduct:
    try:
        plan = backend.plan(weight.values, activation_bits)
    except ValueError as error:
        raise UserError(f"layer {weight.name}: {error}") from None
    return HeldProduct(weight.name, weight.digest(), plan_json(plan), backend.server(plan, weight.values))


def _chosen(names: list[str], layers: str) -> list[str]:
    """The names of layers in the blocks asked for; raises UserError when there is no such block."""
    if not layers:
        return names
    blocks = {int(BLOCK.search(name)[1]) for name in names}
    wanted = set().union(*(parse_range(part) for part in layers.split(",")))
    if not wanted <= blocks:
        raise UserError(f"--layers {layers}: there is no block {min(wanted - blocks)}, the model has 0-{max(blocks)}")
    return [name for name in names if int(BLOCK.search(name)[1]) in wanted]


def parse_range(text: str) -> set[int]:
    """`3` or `0-7`; raises UserError otherwise."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match:
        raise UserError(f"--layers: {text!r} is no block or range of blocks, such as 3 or 0-7")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise UserError(f"--layers: the range {text!r} ends before it begins")
    return set(range(first, last + 1))
