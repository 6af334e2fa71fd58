"""A measurement of all linear layers of a transformer block as plain data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.backends import BACKENDS, PLAINTEXT
from private_lora.specs.base import Spec, check_backend
from private_lora.specs.fields import MAX_BITS, Bits, NotNegative, Positive
from private_lora.specs.grouping import SHARED_INPUTS, groups, joint_name
from private_lora.specs.sentences import check_keys, valid


class BackendChoice(TypedDict):
    """A backend or a product in the clear. variant: tells two of one name apart."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    variant: NotRequired[str]
    options: NotRequired[dict[str, Any]]


def _shapes(layers):
    """The layers by name; raises ValueError unless each is [inputs, outputs]."""
    for name, shape in layers.items() if isinstance(layers, dict) else ():
        if "+" in name or "," in name or not isinstance(shape, list) or len(shape) != 2:
            raise ValueError(f"layer {name!r} must be [inputs, outputs], under a name without commas and plus signs")
        for size, value in zip(("inputs", "outputs"), shape, strict=True):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{size} of layer {name} must be a whole number of at least 1, not {value!r}")
    return layers


class BlockSpec(Spec):
    """One measurement of all linear layers of a transformer block, forward and backward, on `tokens` rows."""

    run_id: str
    model: str
    """whose block it is"""
    blocks: Positive
    """how many such blocks that model has"""
    tokens: Positive
    """rows of one product"""
    layers: Annotated[dict[str, list[int]], Field(min_length=1), BeforeValidator(_shapes)]
    """[inputs, outputs] by name"""
    backends: Annotated[
        list[Annotated[BackendChoice, BeforeValidator(lambda b: check_keys(b, BackendChoice.__annotations__))]],
        Field(min_length=1),
    ]
    """all are measured in one process"""
    activation_bits: Bits
    weight_bits: Bits
    stage: str = "block"
    share_inputs: bool = False
    """q, k, v are one product, and gate, up another, forward and backward"""
    device: Literal["cpu", "cuda"] = "cpu"
    repeats: Positive = 3
    """timed passes over all shapes; in each the backends take turns in an order drawn at random"""
    warmup: NotNegative = 1
    """passes before the ones that are timed"""
    seed: NotNegative = 0
    """of the random rows and weights"""

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        for backend in self.backends:
            valid(self._check_backend, backend["name"], backend.get("options", {}))
        names = [(backend["name"], backend.get("variant", "")) for backend in self.backends]
        for name, variant in names:
            if names.count((name, variant)) > 1:
                raise ValueError(f"backend {name!r} is listed twice: give one of the two a variant of its own")
        for members in self.groups():
            if len({self.layers[name][0] for name in members}) > 1:
                raise ValueError(f"layers {', '.join(members)} cannot share an input: they have different numbers of inputs")
        return self

    def _check_backend(self, name: str, options: dict) -> None:
        matmul = [key for key, backend in BACKENDS.items() if backend.kind == "matmul"]
        check_name("backend", name, (*PLAINTEXT, *matmul))
        if name in matmul:
            check_backend(name, self.device, options)
        elif name == "plaintext_float32_onednn" and self.device != "cpu":
            raise UserError(f"{name} is a product on the CPU: leave it out on device {self.device!r}")
        elif options:
            raise UserError(f"{name} takes no options: leave them out")
        most = PLAINTEXT[name].bits if name in PLAINTEXT else MAX_BITS
        if max(self.activation_bits, self.weight_bits) > most:
            raise UserError(f"{name} multiplies integers of at most {most} bits: take fewer bits, or leave it out")

    def groups(self) -> list[list[str]]:
        """Names of the layers that are one product, for each product; the same in whatever order the layers are listed."""
        first = [name for shared in SHARED_INPUTS for name in shared if name in self.layers]
        names = [*first, *(name for name in self.layers if name not in first)] if self.share_inputs else self.layers
        return groups(names, self.share_inputs)

    def products(self) -> dict[tuple[int, int], list[tuple[str, str]]]:
        """(layer, direction) of all products by their (inputs, outputs); layers that are one product are joined by `+`."""
        found: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for members in self.groups():
            inputs, outputs = self.layers[members[0]][0], sum(self.layers[name][1] for name in members)
            found.setdefault((inputs, outputs), []).append((joint_name(members), "forward"))
            found.setdefault((outputs, inputs), []).append((joint_name(members), "backward"))
        return dict(sorted(found.items()))
