"""What is said about a backend, a quantizer, a data source, a table or a figure without importing it.

Somebody else's package needs this module alone: it adds one of its own by an entry point that names a descriptor, in the group
that GROUPS has for its kind. The descriptor's module is imported whenever a study is planned, so it imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import TypeVar

from pydantic import BaseModel

from private_lora.core.errors import UserError, first_line
from private_lora.specs.fields import MAX_BITS
from private_lora.specs.options import NoOptions

COLOUR = "#[0-9a-fA-F]{6}"


@dataclass(frozen=True)
class BackendDescriptor:
    """What may be said about a backend without importing it.

    path: `module:class`. kind: `matmul` follows `backends.contract`; a `trainer` runs a whole training loop of its own.
    quantized: False only for float32, which has no bit-width. encrypted: a run of it must count encrypted products or fails.
    basis: `measured` or `simulated`, printed in every table. label, colour: in figures. options: model of what its class takes.
    one_bit_width: activations and weights have the same. result_bits: that it keeps of a product's sums, if not all.
    """

    name: str
    path: str
    label: str
    colour: str
    kind: str = "matmul"
    quantized: bool = True
    encrypted: bool = False
    basis: str = "measured"
    devices: tuple[str, ...] = ("cpu",)
    options: type[BaseModel] = NoOptions
    one_bit_width: bool = False
    result_bits: int | None = None

    def __post_init__(self):
        _check(self, "path", r"[\w.]+:\w+", "module:class")
        _check(self, "colour", COLOUR, "a colour such as #0072B2")
        _check(self, "kind", "matmul|trainer", "matmul or trainer")
        _check(self, "basis", "measured|simulated", "measured or simulated")

    @property
    def remote(self) -> bool:
        """Whether workers can serve it: a simulated one draws its noise by the client's steps."""
        return self.kind == "matmul" and self.basis != "simulated"


@dataclass(frozen=True)
class PlaintextDescriptor:
    """A product in the clear that the stage `block` times beside backends: torch alone, without the protocol around it.

    bits: of the widest signed integers that it holds exactly, if these are fewer than the quantizers make.
    """

    name: str
    label: str
    colour: str
    bits: int = MAX_BITS


@dataclass(frozen=True)
class QuantizerDescriptor:
    """ranges: `module:function` that gives the range of each row. symmetric: around zero. calibrated: from a pass before."""

    name: str
    ranges: str
    symmetric: bool = False
    calibrated: bool = False

    def __post_init__(self):
        _check(self, "ranges", r"[\w.]+:\w+", "module:function")


class ActivationQuantizer(QuantizerDescriptor):
    """Of activations and gradients; its rows are tokens."""


class WeightQuantizer(QuantizerDescriptor):
    """Of weights; its rows are outputs."""


@dataclass(frozen=True)
class PairDescriptor:
    """A pair of quantizers under a short name, and how figures show it: without a colour, as any other pair, in grey."""

    name: str
    activations: str
    weights: str
    colour: str = ""
    marker: str = ""

    def __post_init__(self):
        _check(self, "colour", f"({COLOUR})?", "a colour such as #0072B2, or empty")


@dataclass(frozen=True)
class DataDescriptor:
    """What may be said about a data source without importing it.

    module: has `validate(options)` and `examples(options, split, seed)`. text: what it gives. options: their types by name.
    has_answers: whether its examples may have an answer to compare with. is_local: they can be counted before any job.
    is_public: they are nobody's own texts, whatever the options, so that records may show some. divisible: it is one list, of
    which a run may hold out a part of its own choice.
    """

    name: str
    module: str
    text: str
    options: dict[str, type] = field(default_factory=dict)
    has_answers: bool = True
    is_local: bool = True
    is_public: bool = False
    divisible: bool = False


@dataclass(frozen=True)
class Published:
    """A table or figure. function: `module:name`, from the collected data to the table, or to the figure and its points."""

    name: str
    title: str
    function: str
    caption: str

    def __post_init__(self):
        _check(self, "function", r"[\w.]+:\w+", "module:function")


# Kinds of descriptors that an entry point of a group may name.
GROUPS = {
    "private_lora.backends": (BackendDescriptor,),
    "private_lora.quantizers": (ActivationQuantizer, WeightQuantizer, PairDescriptor),
    "private_lora.data": (DataDescriptor,),
    "private_lora.tables": (Published,),
    "private_lora.figures": (Published,),
}
Kind = TypeVar("Kind")


def by_name(ours: Iterable[Kind], group: str, kind: type[Kind]) -> dict[str, Kind]:
    """The descriptors by name, in their order, and after them those of this kind that other packages add.

    Raises UserError, which names the package, on an entry point that names no descriptor of its group, or one whose name is
    taken: nobody's `packed` but ours may stand in a table.
    """
    found = {descriptor.name: descriptor for descriptor in ours}
    for entry in _installed().select(group=group):
        descriptor = _loaded(entry)
        if not isinstance(descriptor, kind):
            continue
        if descriptor.name in found:
            raise UserError(
                f"{_origin(entry)}: the name {descriptor.name!r} is taken: choose another, or uninstall the package"
            )
        found[descriptor.name] = descriptor
    return found


def packages() -> dict[str, str]:
    """Versions, by name, of the packages that add something."""
    return {entry.dist.name: entry.dist.version for group in GROUPS for entry in _installed().select(group=group)}


@cache
def _installed() -> EntryPoints:
    """Of all packages: reading their metadata takes a moment."""
    return entry_points()


@cache
def _loaded(entry: EntryPoint):
    """The descriptor that an entry point names."""
    try:
        descriptor = entry.load()
    except Exception as error:
        raise UserError(
            f"{_origin(entry)} cannot be loaded ({first_line(error)}): correct {entry.value}, or uninstall the package"
        ) from None
    kinds = GROUPS[entry.group]
    if not isinstance(descriptor, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{_origin(entry)} must name a {names} of private_lora.specs.descriptors, not {descriptor!r}")
    return descriptor


def _origin(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}: entry point {entry.name} of {entry.group}"


def _check(descriptor, name: str, pattern: str, what: str) -> None:
    """Nothing; raises ValueError unless a field is what it must be, which would be found out only after hours of a study."""
    value = getattr(descriptor, name)
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{name} of {descriptor.name!r} must be {what}, not {value!r}")
