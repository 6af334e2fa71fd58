"""A fine-tuning run as plain data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from private_lora.core.errors import UserError
from private_lora.specs.backends import BACKENDS
from private_lora.specs.data import DATASETS, DataName, path_as_source
from private_lora.specs.fields import NotNegative, Positive, Quantity, Share, Targets
from private_lora.specs.models import ARCHITECTURES
from private_lora.specs.sentences import valid
from private_lora.specs.split import SplitSpec


class RunSpec(SplitSpec):
    """One fine-tuning run of a split model."""

    run_id: str
    """name of the run"""
    data: Annotated[
        DataName,
        Field(
            description="; ".join(f"{name}: {d.text}" for name, d in DATASETS.items())
            + "; or a path of JSONL or of a directory"
        ),
    ]
    stage: str = "manual"
    """part of a study that the run belongs to"""
    variant: str = ""
    """free text that tells runs apart"""
    data_options: dict[str, Any] = Field(default_factory=dict)
    """of the data source, as JSON: '{"path": "problems.jsonl"}'"""
    recompute: bool = False
    """compute a block's activations again in backward, for less memory"""
    lora_rank: Positive = 8
    """rank of the adapter"""
    lora_alpha: Quantity = 32
    """the adapter is scaled by alpha / rank"""
    lora_dropout: Share = 0.01
    """share of the adapter's inputs that are dropped in training"""
    lora_targets: Targets | None = None
    """last parts of the names of linear layers that get an adapter, as JSON: '["c_attn"]'; null: all of them. Layers without
    one are computed by the backend all the same: their weights are frozen too"""
    learning_rate: Quantity = 2e-3
    """peak learning rate"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd: plain, whose step is as large as the gradient says"""
    weight_decay: Quantity = 0.01
    """of the optimizer"""
    warmup_steps: NotNegative = 10
    """steps until the peak learning rate"""
    max_grad_norm: Quantity | None = 1.0
    """gradients are clipped to this norm; null: not at all. The norm is recorded as it was before"""
    lr_schedule: Literal["linear", "constant"] = "linear"
    """after the warm-up: linear (to zero at the last step) or constant"""
    steps: Positive = 100
    """optimizer steps"""
    batch_size: Positive = 8
    """sequences per step"""
    sequence_length: Annotated[int, Field(ge=2)] = 96
    """tokens per sequence, padding included"""
    longer: Literal["cut", "leave_out"] = "cut"
    """examples of more tokens than sequence_length, those that begin and end a row not counted: cut, or left out before
    train_examples and eval_examples are taken, as in the paper's code"""
    seed: NotNegative = 0
    """of data order, adapter and dropout; never of keys"""
    train_examples: Positive = 2000
    """training examples"""
    rehearsed_rows: NotNegative = 0
    """rows of general text in every batch beside its sequences, new ones each time, so that the model forgets less of others"""
    eval_examples: NotNegative = 64
    """held-out examples for the loss; 0 for none"""
    held_out: Literal["by_prompt", "drawn", "nothing"] = "by_prompt"
    """where those are from; by_prompt: the source's own test part, or a tenth of the prompts; drawn: eval_examples of all, and
    train_examples of the rest, in one random order of seed 0, as in the paper's code; nothing: all is for training"""
    eval_every: NotNegative = 50
    """steps between evaluations, besides the first and the last; 0: only those"""
    generate_examples: NotNegative = 0
    """held-out examples for which an answer is written; 0 for none"""
    pad: Literal["configured", "longest"] = "configured"
    """of prompts whose answers are written, where products are encrypted or at workers; configured: to sequence_length, all
    tokens computed; longest: as elsewhere to the longest of a batch, until all have ended, which is faster and shows workers
    how long they are"""
    general_examples: NotNegative = 0
    """pieces of general text whose loss is taken first and last, to see what is forgotten; 0 for none"""
    count_padding: bool = False
    """padding counts in loss and perplexity"""
    count_newline: bool = False
    """the newline between question and answer counts in loss, perplexity and exact match, where it is a token of its own, as in
    the paper's code"""
    calibration: Literal["begin_token", "random"] = "begin_token"
    """rows that static ranges are taken from: random tokens behind the begin token, or random tokens alone, as in the paper's
    code"""
    checkpoint_every: Positive = 20
    """steps between checkpoints"""
    zero_row_probes: NotNegative = 0
    """backward passes a step with noise of a known size in the zero rows of the gradient, which predict what the reference
    implementation's scale of 1 does to its norm; of backend integer with exact constant rows alone, and in its counters"""

    @model_validator(mode="before")
    @classmethod
    def _path_as_source(cls, values):
        return valid(path_as_source, values)

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        valid(self._check_model)
        valid(self._check_held_out)
        valid(self._check_trainer)
        return self

    def _check_model(self) -> None:
        if self.model in ARCHITECTURES and (self.weights != "random" or self.data != "random_tokens"):
            raise UserError(
                f"{self.model} is an architecture without weights and tokenizer: it takes weights: random and "
                "data: random_tokens; for the real model give its directory or hub id"
            )
        if self.generate_examples and not DATASETS[self.data].has_answers:
            raise UserError(f"{self.data} has no problems to answer: set generate_examples to 0")
        if self.generate_examples > self.eval_examples:
            raise UserError(
                f"generate_examples: {self.generate_examples} are more than the {self.eval_examples} held-out examples of "
                "eval_examples, of which they are the first"
            )

    def _check_held_out(self) -> None:
        if self.held_out == "nothing" and self.eval_examples:
            raise UserError("held_out: nothing leaves no examples to evaluate on: set eval_examples to 0")
        if self.held_out == "by_prompt" or self.data == "random_tokens":
            return
        if not DATASETS[self.data].divisible:
            known = ", ".join(name for name, source in DATASETS.items() if source.divisible)
            raise UserError(f"{self.data} has a held-out part of its own: held_out: {self.held_out} is for {known}")
        own = [name for name in ("test_path", "test_split") if self.data_options.get(name)]
        if own:
            raise UserError(f"held_out: {self.held_out} divides all examples itself: leave {own[0]!r} out of data_options")

    def _check_trainer(self) -> None:
        if BACKENDS[self.backend].kind == "trainer" and self.recompute:
            raise UserError(f"backend {self.backend!r} trains by itself and keeps all activations: set recompute to false")
        if self.zero_row_probes and self.recompute:
            raise UserError(
                "zero_row_probes go through activations that recompute does not keep: set one of both to 0 or false"
            )
