"""A run through workers on this machine's loopback, as plain data: fine-tuning, or a text that is generated."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.backends import remote_backends
from private_lora.specs.base import Spec
from private_lora.specs.estimate import EstimateSpec
from private_lora.specs.fields import Bandwidth, Positive, Quantity
from private_lora.specs.generate import GenerateSpec
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.specs.ranges import parse_ranges
from private_lora.specs.run import RunSpec
from private_lora.specs.sentences import valid
from private_lora.specs.split import SplitSpec


class ThroughWorkers(Spec):
    """Who computes the products of a run: workers that are processes of their own, or this process."""

    run_id: str
    run: SplitSpec
    workers: list[str] = Field(default_factory=list)
    """what each holds, such as `0-7`, or "" for all layers; none: in process"""
    tls: bool = True
    """with certificates of its own"""
    check_answers: bool = True
    """Freivalds' check of answers"""
    rows_per_question: Positive | None = None
    """tokens of one question, spread over a layer's workers; none: all"""
    bandwidth_bits_per_s: Bandwidth | None = None
    """of a link before every worker; none: loopback itself"""
    latency_s: Quantity = 0.0
    """of that link, there and back"""

    @property
    def is_shaped(self) -> bool:
        """Whether messages pass through a link that is slower than loopback."""
        return self.bandwidth_bits_per_s is not None or self.latency_s > 0

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        valid(check_name, "backend of remote workers", self.run.backend, remote_backends())
        if self.workers and ACTIVATION_QUANTIZERS[self.run.activation_quantizer].calibrated:
            raise ValueError(
                f"{self.run.activation_quantizer} is calibrated with the weights themselves: workers need a dynamic quantizer"
            )
        for layers in self.workers:
            try:
                parse_ranges(layers)
            except UserError as error:
                raise ValueError(f"workers: {error}") from None
        if not self.workers and (self.is_shaped or self.rows_per_question):
            raise ValueError("a run in process has neither a link nor questions: leave them out, or list workers")
        return self


class LoopbackSpec(ThroughWorkers):
    """A fine-tuning run through workers, or in process beside one."""

    run: RunSpec
    """the fine-tuning run"""
    stage: str = "loopback"


class GenerationSpec(ThroughWorkers):
    """A measurement of a text that is generated, token by token, through workers or in process beside them."""

    run: GenerateSpec
    """what is generated"""
    variant: str = ""
    """the arrangement's name, which tells measurements apart"""
    repeats: Positive = 1
    """of the whole text, in one process"""
    stage: str = "generation"

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if self.run.prompt_tokens is None:
            raise ValueError("a measurement of cost starts from random tokens: give prompt_tokens, and no prompt")
        return self


def run_of(spec):
    """The run of a run through workers, or of an estimate; any other spec as it is."""
    return spec.run if isinstance(spec, (ThroughWorkers, EstimateSpec)) else spec
