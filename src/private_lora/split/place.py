"""Where the products of a session are computed: in this process, or at workers."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from private_lora.backends.contract import Backend, Client, Counters, Plan, Server
from private_lora.specs.run import RunSpec
from private_lora.split.stopwatch import TimedProduct, timed_product
from private_lora.split.weights import ProductWeight


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


class InProcess:
    """Where products are computed when there is no worker but this process: it holds client and server side by side."""

    is_local = True
    counters = Counters()

    def server(self, backend: Backend, plan: Plan, weight) -> Server:
        """The server of a product (a `ProductWeight`)."""
        return backend.server(plan, weight.values)

    def product(self, client: Client, server: Server, x: np.ndarray) -> TimedProduct:
        """x W, T x D."""
        return timed_product(client, server, x)

    def connect(self, spec) -> None:
        """Nothing: told once, when every product is known."""

    def metrics(self) -> dict[str, tuple[float, str]]:
        """Nothing to tell."""
        return {}

    def report(self) -> dict:
        """Nothing to tell."""
        return {}
