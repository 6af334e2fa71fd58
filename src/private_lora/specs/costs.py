"""What the cost model is asked, as plain data."""

from __future__ import annotations

from typing import Annotated, NotRequired, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from private_lora.specs.base import Spec
from private_lora.specs.fields import Bandwidth, Positive, Quantity
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS
from private_lora.specs.sentences import check_keys, one_of, unique

Name = Annotated[str, Field(min_length=1)]
Model = one_of("architecture", (*ARCHITECTURES, *BUILT_IN_MODELS))


class Network(TypedDict):
    """Of the client. latency_s: there and back."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name
    bandwidth_bits_per_s: Bandwidth
    latency_s: Quantity


class Arranged(TypedDict):
    """Workers of one client. shards: parts that the blocks are in, each at workers of its own. replicas: workers with the
    same blocks, which share the rows of a product where it is cut into questions of `rows_per_question` tokens.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name
    shards: Positive
    replicas: Positive
    rows_per_question: NotRequired[Positive]


class Prices(TypedDict):
    """Per hour of a machine and per 10^9 bytes. note: where they are from."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    currency: Name
    worker_per_hour: Quantity
    client_per_hour: Quantity
    traffic_per_gb: Quantity
    note: Name


class CostSpec(Spec):
    """What the cost model predicts: steps of `models` at `tokens` over `networks`, in each of the `arrangements`."""

    models: Annotated[list[Model], BeforeValidator(unique)]
    """architectures"""
    tokens: Annotated[list[Positive], BeforeValidator(unique)]
    """of a step"""
    networks: list[Annotated[Network, BeforeValidator(lambda n: check_keys(n, Network.__annotations__))]]
    arrangements: Annotated[list[Arranged], Field(min_length=1)]
    """of workers, each machine like the one that was measured"""
    prices: Annotated[Prices, BeforeValidator(lambda p: check_keys(p, Prices.__annotations__))]
    """assumed; they change predictions, and no measurement"""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for kind, named in (("network", self.networks), ("arrangement", self.arrangements)):
            names = [one["name"] for one in named]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{kind} {name!r} is listed twice: give each a name of its own")
        return self
