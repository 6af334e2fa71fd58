"""A text to generate, as plain data."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from private_lora.core.errors import UserError
from private_lora.specs.backends import BACKENDS
from private_lora.specs.fields import NotNegative, Positive, Quantity, Share
from private_lora.specs.models import ARCHITECTURES
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.specs.sentences import valid
from private_lora.specs.split import SplitSpec

PAD_TO = 128  # longer than most questions, and about what a worker takes a second for


class GenerateSpec(SplitSpec):
    """What a (fine-tuned) model is to write after a prompt; the fields of the split model are those of its training."""

    adapter: str | None = None
    """directory `adapter` that fine-tuning wrote; default: the base model alone"""
    prompt: str | None = None
    """text to go on from"""
    questions: str | None = None
    """file of questions instead, one a line; each is asked as in fine-tuning on questions and answers, a newline behind it"""
    prompt_tokens: Positive | None = None
    """so many random tokens instead of a prompt, for measurements of cost"""
    max_new_tokens: Positive = 64
    """tokens to write at most, the end token included"""
    temperature: Quantity = 0.0
    """of sampling; 0: always the likeliest token"""
    top_p: Share = 1.0
    """sample from the likeliest tokens that have this share together"""
    seed: NotNegative = 0
    """of sampling and of random weights; never of keys"""
    pad_to: NotNegative | None = None
    """pad the prompt to a multiple of so many tokens, and compute all of max_new_tokens: workers see neither length;
    0: neither, which is faster; default: 128, and 0 with prompt_tokens"""

    @property
    def prompt_multiple(self) -> int:
        """Tokens to a multiple of which the prompt is padded; 0: not at all, and the text stops at its end token."""
        if self.pad_to is not None:
            return self.pad_to
        return PAD_TO if self.prompt_tokens is None else 0

    @model_validator(mode="after")
    def _can_be_generated(self) -> Self:
        valid(self._check_backend)
        valid(self._check_prompt)
        if self.top_p == 0:
            raise ValueError("top_p must be more than 0: 1 samples from all tokens")
        return self

    def _check_backend(self) -> None:
        if BACKENDS[self.backend].kind != "matmul":
            raise UserError(f"backend {self.backend!r} has a training loop of its own and generates nothing")
        if self.activation_bits is not None and ACTIVATION_QUANTIZERS[self.activation_quantizer].calibrated:
            raise UserError(f"{self.activation_quantizer} is calibrated for training: generation needs a dynamic quantizer")

    def _check_prompt(self) -> None:
        if sum(given is not None for given in (self.prompt, self.questions, self.prompt_tokens)) != 1:
            raise UserError("give either a prompt, or questions, a file of them, or prompt_tokens, a number of random tokens")
        if self.model in ARCHITECTURES and (self.weights != "random" or self.prompt_tokens is None):
            raise UserError(
                f"{self.model} is an architecture without weights and tokenizer: it takes weights: random and prompt_tokens; "
                "for the real model give its directory or hub id"
            )
