"""A measurement of all linear layers of a transformer block as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.base import Spec, _check_boolean, _check_integer, check_bits
from private_lora.specs.registry import (
    BACKENDS,
    MAX_BITS,
    PLAINTEXT,
    PLAINTEXT_BITS,
)

# Layers of a block that have the same input, as `products.SHARED_INPUTS` has them in a model.
SHARED_LAYERS = (("q", "k", "v"), ("gate", "up"))


@dataclass(frozen=True)
class BlockSpec(Spec):
    """One measurement of all linear layers of a transformer block, forward and backward, on `tokens` rows.

    model, blocks: whose block it is, and how many such blocks that model has. layers: [inputs, outputs] by name.
    backends: mappings with `name`, and `variant` and `options` where given; all are measured in one process.
    share_inputs: q, k, v are one product, and gate, up another, forward and backward.
    """

    run_id: str
    model: str
    blocks: int
    tokens: int
    layers: dict[str, list[int]]
    backends: list[dict]
    activation_bits: int
    weight_bits: int
    stage: str = "block"
    share_inputs: bool = False
    device: str = "cpu"
    repeats: int = 3
    warmup: int = 1
    seed: int = 0

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        for name in ("tokens", "blocks", "repeats"):
            _check_integer(name, getattr(self, name), 1)
        for name in ("warmup", "seed"):
            _check_integer(name, getattr(self, name), 0)
        for name in ("activation_bits", "weight_bits"):
            check_bits(name, getattr(self, name))
        _check_boolean("share_inputs", self.share_inputs)
        check_name("device", self.device, ("cpu", "cuda"))
        for backend in self.backends:
            self._check_backend(backend["name"])
        names = [(backend["name"], backend.get("variant", "")) for backend in self.backends]
        for name, variant in names:
            if names.count((name, variant)) > 1:
                raise UserError(f"backend {name!r} is listed twice: give one of the two a variant of its own")
        self._check_layers()

    def _check_backend(self, name: str) -> None:
        matmul = {key: entry for key, entry in BACKENDS.items() if entry.kind == "matmul"}
        check_name("backend", name, (*PLAINTEXT, *matmul))
        if name in matmul:
            check_name(f"device for backend {name}", self.device, matmul[name].devices)
        most = PLAINTEXT_BITS.get(name, MAX_BITS)
        if max(self.activation_bits, self.weight_bits) > most:
            raise UserError(f"{name} multiplies integers of at most {most} bits: take fewer bits, or leave it out")

    def _check_layers(self) -> None:
        if not self.backends or not self.layers:
            raise UserError("a block needs at least one backend and one layer")
        for name, shape in self.layers.items():
            if len(shape) != 2 or "+" in name or "," in name:
                raise UserError(f"layer {name!r} must be [inputs, outputs], under a name without commas and plus signs")
            for size, value in zip(("inputs", "outputs"), shape, strict=True):
                _check_integer(f"{size} of layer {name}", value, 1)
        for members in self.groups():
            if len({self.layers[name][0] for name in members}) > 1:
                raise UserError(f"layers {', '.join(members)} cannot share an input: they have different numbers of inputs")

    def groups(self) -> list[tuple[str, ...]]:
        """Names of the layers that are one product, for each product."""
        shared = [tuple(n for n in names if n in self.layers) for names in SHARED_LAYERS if self.share_inputs]
        return [names for names in shared if names] + [(n,) for n in self.layers if not any(n in names for names in shared)]

    def products(self) -> dict[tuple[int, int], list[tuple[str, str]]]:
        """(layer, direction) of all products by their (inputs, outputs); layers that are one product are joined by `+`."""
        found: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for members in self.groups():
            inputs, outputs = self.layers[members[0]][0], sum(self.layers[name][1] for name in members)
            found.setdefault((inputs, outputs), []).append(("+".join(members), "forward"))
            found.setdefault((outputs, inputs), []).append(("+".join(members), "backward"))
        return dict(sorted(found.items()))
