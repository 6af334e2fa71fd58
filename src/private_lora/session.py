"""What all remote products of one run share: backend, quantization, keys, stage times, measured noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from private_lora.backends.base import Backend, Client, Counters, Plan
from private_lora.backends.timed import InProcess, TimedProduct

if TYPE_CHECKING:
    from private_lora.products import ProductWeight
    from private_lora.recompute import Tape
    from private_lora.remote_product import RemoteProduct
    from private_lora.spec import RunSpec


class Place(Protocol):
    """Where the servers of a session are: `InProcess`, or workers over a network.

    is_local: whether this process may hold weights. counters: of what belongs to no single product.
    """

    is_local: bool
    counters: Counters

    def server(self, backend: Backend, plan: Plan, weight: ProductWeight):
        """What stands for one product here, with its `counters`."""

    def product(self, client: Client, server, x: np.ndarray) -> TimedProduct:
        """x W of one product (T x D from T x K); raises Interrupted if nobody can be found to compute it."""

    def connect(self, spec: RunSpec) -> None:
        """Make ready, once every product is known; raises UserError if the other side holds something else."""

    def metrics(self) -> dict[str, tuple[float, str]]:
        """Value and unit of what was measured here beside the counters, by the result schema's names."""

    def report(self) -> dict:
        """What a sidecar should say of it."""


@dataclass(frozen=True)
class Quantization:
    """How a run quantizes, forward and backward alike; None bits for a backend that does not."""

    activation_quantizer: str
    weight_quantizer: str
    activation_bits: int | None
    weight_bits: int | None
    constant_rows: str = "exact"


@dataclass
class Stages:
    """Seconds spent in each stage of the remote products of a run, and what was seen on the way.

    matmul_s: the servers' own time. wait_s: how long the client waited for them. verify_s: its check of answers.
    check_s: in comparing approximate answers with the exact product, which is no part of the protocol.
    """

    quantize_s: float = 0.0
    encrypt_s: float = 0.0
    matmul_s: float = 0.0
    decrypt_s: float = 0.0
    wait_s: float = 0.0
    verify_s: float = 0.0
    check_s: float = 0.0
    remote_rows: int = 0
    backward_rows: int = 0
    zero_backward_rows: int = 0


@dataclass
class NoiseMeter:
    """Error of decrypted accumulators against the exact integer product, in integer units."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    largest: int = 0

    def add(self, error: np.ndarray) -> None:
        """Take in one matrix of errors."""
        self.count += error.size
        self.total += float(error.sum())
        self.squares += float((error.astype(np.float64) ** 2).sum())
        self.largest = max(self.largest, int(np.abs(error).max()))

    @property
    def std(self) -> float:
        """Standard deviation over everything seen; NaN before anything was."""
        if not self.count:
            return float("nan")
        mean = self.total / self.count
        return float(np.sqrt(max(0.0, self.squares / self.count - mean * mean)))


@dataclass
class Session:
    """What all remote layers of one run share: backend, quantization, the client's keys, stage times."""

    backend: Backend
    quantization: Quantization
    stages: Stages = field(default_factory=Stages)
    noise: NoiseMeter = field(default_factory=NoiseMeter)
    products: list[RemoteProduct] = field(default_factory=list)
    keys: object = None
    calibrating: bool = False
    before: Counters = field(default_factory=Counters)
    """What the run had counted when it was interrupted."""
    tape: Tape | None = None
    """Where answers are kept, or taken from, while a block runs whose activations are recomputed in backward."""
    place: Place = field(default_factory=InProcess)
    """Where products are computed."""

    def answer(self, group: object, ask: Callable[[], np.ndarray]) -> np.ndarray:
        """A remote answer: asked for, unless the block's first pass has it on tape."""
        return ask() if self.tape is None else self.tape.answer(group, ask)

    @property
    def counters(self) -> Counters:
        """Counters of all clients and servers, and of the place between them."""
        return sum((p.server.counters + p.client.counters for p in self.products), self.before + self.place.counters)

    @property
    def public_material_bytes(self) -> int:
        """Size of what the server gets once per key: 0 for a backend that needs no evaluation key."""
        material = self.products[0].client.public_material() if self.products else None
        return 0 if material is None else len(material.to_bytes())

    def resume(self, stages: dict, noise: dict, counters: dict) -> None:
        """Count on from an interrupted run."""
        self.stages, self.noise, self.before = Stages(**stages), NoiseMeter(**noise), Counters(**counters)
