"""What all remote products of one run share: backend, quantization, keys, times of operations, measured noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from private_lora.backends.contract import Backend, Client, Counters, Plan
from private_lora.specs.quantization import Quantization
from private_lora.split.overflow import OverflowMeter
from private_lora.split.place import InProcess, Place
from private_lora.split.tape import Tape
from private_lora.split.zero_rows import ZeroRowProbe


class SessionProduct(Protocol):
    """What a session knows of each of its products (`split.product.RemoteProduct`)."""

    name: str
    plan: Plan
    client: Client
    server: object


@dataclass
class Timings:
    """Seconds spent in each operation of the remote products of a run, and what was seen on the way.

    matmul_s: the servers' own time. wait_s: how long the client waited for them. verify_s: its check of answers.
    offline_s: what of encrypt_s and decrypt_s no data went into. check_s: in comparing approximate answers with the exact
    product, which is no part of the protocol.
    """

    quantize_s: float = 0.0
    encrypt_s: float = 0.0
    matmul_s: float = 0.0
    decrypt_s: float = 0.0
    wait_s: float = 0.0
    verify_s: float = 0.0
    offline_s: float = 0.0
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
    """What all remote layers of one run share: backend, quantization, the client's keys, times of operations."""

    backend: Backend
    quantization: Quantization
    timings: Timings = field(default_factory=Timings)
    noise: NoiseMeter = field(default_factory=NoiseMeter)
    overflow: OverflowMeter = field(default_factory=OverflowMeter)
    products: list[SessionProduct] = field(default_factory=list)
    keys: object = None
    calibrating: bool = False
    before: Counters = field(default_factory=Counters)
    """What the run had counted when it was interrupted."""
    tape: Tape | None = None
    """Where answers are kept, or taken from, while a block runs whose activations are recomputed in backward."""
    probe: ZeroRowProbe | None = None
    """What adds noise to the zero rows of a backward pass, while one is measured."""
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

    def close(self) -> None:
        """Wipe the client's secrets: nothing can be asked any more."""
        self.backend.close(self.keys)

    def resume(self, timings: dict, noise: dict, overflow: dict, counters: dict) -> None:
        """Count on from an interrupted run."""
        self.timings, self.noise, self.before = Timings(**timings), NoiseMeter(**noise), Counters(**counters)
        self.overflow = OverflowMeter(**overflow)
