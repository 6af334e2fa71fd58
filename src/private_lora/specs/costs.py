"""What the cost model is asked, as plain data."""

from __future__ import annotations

from typing import Annotated, Self

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


class Prices(TypedDict):
    """Per hour of a machine and per 10^9 bytes. note: where they are from."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    currency: Name
    worker_per_hour: Quantity
    client_per_hour: Quantity
    traffic_per_gb: Quantity
    note: Name


class CostSpec(Spec):
    """What the cost model predicts: steps of `models` at `tokens` over `networks`, with each number of `workers`."""

    models: Annotated[list[Model], BeforeValidator(unique)]
    """architectures"""
    tokens: Annotated[list[Positive], BeforeValidator(unique)]
    """of a step"""
    networks: list[Annotated[Network, BeforeValidator(lambda n: check_keys(n, Network.__annotations__))]]
    workers: Annotated[list[Positive], Field(min_length=1), BeforeValidator(unique)]
    """the outputs of every product are split evenly over so many"""
    prices: Annotated[Prices, BeforeValidator(lambda p: check_keys(p, Prices.__annotations__))]
    """assumed; they change predictions, and no measurement"""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [network["name"] for network in self.networks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"network {name!r} is listed twice: give each a name of its own")
        return self
