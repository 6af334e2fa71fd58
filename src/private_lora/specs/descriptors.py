"""What is said about a backend, a quantizer, a data source, a table or a figure without importing it.

Somebody else's package needs this module alone: it adds one of its own by an entry point that names a descriptor,
in a group such as `private_lora.backends`. The descriptor's module is imported whenever a study is planned, so it imports
nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoints, entry_points

from pydantic import BaseModel

from private_lora.specs.fields import MAX_BITS
from private_lora.specs.options import NoOptions


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


@dataclass(frozen=True)
class PairDescriptor:
    """A pair of quantizers with a short name, and how figures show it."""

    activations: str
    weights: str
    short: str
    colour: str = ""
    marker: str = ""


@dataclass(frozen=True)
class DataDescriptor:
    """What may be said about a data source without importing it.

    module: has `validate(options)` and `examples(options, split, seed)`. text: what it gives. options: their types by name.
    has_answers: whether its examples may have an answer to compare with. is_local: they can be counted before any job.
    is_public: they are nobody's own texts, whatever the options, so that records may show some.
    """

    name: str
    module: str
    text: str
    options: dict[str, type] = field(default_factory=dict)
    has_answers: bool = True
    is_local: bool = True
    is_public: bool = False


@dataclass(frozen=True)
class Published:
    """A table or figure. function: `module:name`, from the collected data to the table, or to the figure and its points."""

    name: str
    title: str
    function: str
    caption: str


@cache
def _installed() -> EntryPoints:
    """Of all packages: reading their metadata takes a moment."""
    return entry_points()


def by_name(ours: Iterable, group: str) -> dict:
    """The descriptors by name, in their order, and after them those that other packages add."""
    theirs = [entry.load() for entry in _installed().select(group=group)]
    return {descriptor.name: descriptor for descriptor in (*ours, *theirs)}
