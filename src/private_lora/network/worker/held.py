"""What a worker holds: the weights of its layers, quantized once, as servers of a backend."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from private_lora.backends import load as load_backend
from private_lora.backends.contract import Backend, Server
from private_lora.core.errors import UserError
from private_lora.core.memory import give_back_memory
from private_lora.models.stream import WeightSource, open_weights, remote_layers
from private_lora.network.wire.settings import Settings, model_identity, plan_json
from private_lora.specs.grouping import groups, joint_name
from private_lora.specs.ranges import parse_ranges
from private_lora.specs.worker import WorkerSpec
from private_lora.split.weights import ProductWeight, backward_weight, forward_weight, input_output_weight

BLOCK = re.compile(r"\.(\d+)\.")


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
        self._lock = threading.Lock()

    def accept(self, material) -> None:
        """Give a client's public material to every server."""
        with self._lock:
            self._sessions_with[material.key_id] += 1
            for product in self.products.values():
                product.server.accept(material)

    def release(self, material) -> None:
        """Take it back when the last session that sent it has ended; None is of a session that sent none."""
        if material is None:
            return
        with self._lock:
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
    model, source, _ = open_weights(spec.model, spec.revision, spec.weights, spec.seed, spec.blocks)
    layers = remote_layers(model)
    chosen = _chosen(list(layers), spec.layers)
    backend = load_backend(spec.backend, device=spec.device, **spec.backend_options)
    products = {}
    for names in groups(chosen, spec.share_inputs):
        for weight in _weights(names, layers, source, spec):
            products[weight.name] = _product(backend, weight, spec.activation_bits)
            if progress is not None:
                progress(weight.name)
        # Quantizing left holes of the size of float32 weights.
        give_back_memory()
    identity = model_identity(spec.model, spec.revision, spec.weights, spec.seed)
    return Held(Settings.of(spec, identity), backend, products)


def _weights(names: list[str], layers: dict, source: WeightSource, spec: WorkerSpec) -> Iterator[ProductWeight]:
    """The products of one group, the way the client makes them."""
    weights = [input_output_weight(layers[name], source(f"{name}.weight")) for name in names]
    joint = np.concatenate(weights, axis=1)
    widths, name = [weight.shape[1] for weight in weights], joint_name(names)
    del weights
    yield forward_weight(joint, name, widths, spec.quantization)
    if spec.backward:
        yield backward_weight(joint, name, spec.quantization)


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
    wanted = parse_ranges(layers)
    if not wanted <= blocks:
        raise UserError(f"--layers {layers}: there is no block {min(wanted - blocks)}, the model has 0-{max(blocks)}")
    return [name for name in names if int(BLOCK.search(name)[1]) in wanted]
