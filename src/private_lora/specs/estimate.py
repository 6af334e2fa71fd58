"""An estimate beside the run that it is of, as plain data."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from private_lora.core.names import check_name
from private_lora.specs.base import Spec
from private_lora.specs.run import RunSpec
from private_lora.specs.sentences import valid

# Those whose bytes and parameters are known before a product.
ESTIMATED_BACKENDS = ("packed", "packed_approx")


class EstimateSpec(Spec):
    """A fine-tuning run in process, estimated before it starts."""

    run_id: str
    run: RunSpec
    """the run"""
    stage: str = "estimate"

    @model_validator(mode="after")
    def _can_be_estimated(self) -> Self:
        valid(check_name, "backend of an estimate", self.run.backend, ESTIMATED_BACKENDS)
        if self.run.blocks or not self.run.share_inputs:
            raise ValueError("an estimate is of a whole model whose layers share inputs: leave out blocks and share_inputs")
        return self
