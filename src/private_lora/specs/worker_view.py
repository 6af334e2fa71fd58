"""A look at what a worker receives of a text, as plain data."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.data import DATASETS
from private_lora.specs.fields import Positive
from private_lora.specs.models import ARCHITECTURES
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.specs.sentences import one_of, valid
from private_lora.specs.split import SplitSpec

# Their messages hold one number for each activation; those of `glwe` hold ciphertexts of whole rows.
SHOWN = ("integer", "packed", "packed_approx")
READABLE = tuple(name for name, source in DATASETS.items() if source.is_public)


class WorkerViewSpec(SplitSpec):
    """What a worker is sent for the first linear layers of a model, and how much of the text it can read back.

    The text is that of a public data source, because records show it: its test examples, one after the other.
    """

    run_id: str
    data: one_of("dataset", READABLE)
    """a public data source"""
    data_options: dict[str, Any] = Field(default_factory=dict)
    """of the data source"""
    stage: str = "worker_view"
    variant: str = ""
    questions: Positive = 20
    """pieces of the text, each a question of its own"""
    tokens: Positive = 24
    """of each piece"""
    columns: Positive = 48
    """of the first question's values that are recorded"""

    @model_validator(mode="after")
    def _can_be_shown(self) -> Self:
        valid(check_name, "backend whose messages hold a number for each activation", self.backend, SHOWN)
        if ACTIVATION_QUANTIZERS[self.activation_quantizer].calibrated:
            raise ValueError(
                f"{self.activation_quantizer} is calibrated for training: a worker's view needs a dynamic quantizer"
            )
        valid(self._check_model)
        return self

    def _check_model(self) -> None:
        if self.model in ARCHITECTURES or self.weights != "pretrained":
            raise UserError(f"{self.model} with {self.weights} weights reads no text: give a model with weights and tokenizer")
