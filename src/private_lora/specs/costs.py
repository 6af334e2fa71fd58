"""What the cost model is asked, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.base import Spec, _check_integer, _check_keys, _check_number
from private_lora.specs.registry import (
    ARCHITECTURES,
    BUILT_IN_MODELS,
)

NETWORK = ("name", "bandwidth_bits_per_s", "latency_s")


PRICES = ("worker_per_hour", "client_per_hour", "traffic_per_gb")


@dataclass(frozen=True)
class CostSpec(Spec):
    """What the cost model predicts: steps of `models` at `tokens` over `networks`, with each number of `workers`.

    networks: mappings of name, bandwidth_bits_per_s and latency_s (there and back). prices: currency, PRICES and note.
    """

    models: list[str]
    tokens: list[int]
    networks: list[dict]
    workers: list[int]
    prices: dict

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on an unknown model or a quantity that cannot be."""
        for model in self.models:
            check_name("architecture", model, (*ARCHITECTURES, *BUILT_IN_MODELS))
        for name in ("tokens", "workers"):
            for value in getattr(self, name):
                _check_integer(name, value, 1)
        for i, network in enumerate(self.networks):
            _check_keys(f"networks[{i}]", network, NETWORK)
            _check_number(f"networks[{i}].bandwidth_bits_per_s", network["bandwidth_bits_per_s"], 1)
            _check_number(f"networks[{i}].latency_s", network["latency_s"], 0)
            if network["name"] in [other["name"] for other in self.networks[:i]]:
                raise UserError(f"network {network['name']!r} is listed twice: give each a name of its own")
        _check_keys("prices", self.prices, (*PRICES, "currency", "note"))
        for name in PRICES:
            _check_number(f"prices.{name}", self.prices[name], 0)
