"""A run at its start: model split and adapted, texts encoded, optimizer made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from private_lora.backends import load as load_backend
from private_lora.core.memory import give_back_memory
from private_lora.data.encoding import Batches, Encoded, encode, encoding_report, text_lengths, with_room
from private_lora.data.examples import Example
from private_lora.data.load import load_divided, load_examples
from private_lora.data.sources.random_tokens import random_tokens
from private_lora.models.stream import Frame, WeightSource, load_frame, load_whole
from private_lora.results.provenance import machine
from private_lora.results.recorder import Recorder
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS
from private_lora.specs.quantization import Quantization
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.specs.run import RunSpec
from private_lora.specs.split import SplitSpec
from private_lora.split.linear import calibrate, split_model
from private_lora.split.place import InProcess, Place
from private_lora.split.recompute import recompute_activations
from private_lora.split.session import Session
from private_lora.training.adapter import add_adapter
from private_lora.training.checkpoints import Checkpoint
from private_lora.training.exactness import check_planned_values
from private_lora.training.live import Live
from private_lora.training.metrics import guessed

GENERAL_TOKENS = 64  # of a row of general text
REHEARSED = 4500  # pieces of general text, of which there are a few more


@dataclass
class Texts:
    """Encoded training rows, held-out examples and their rows ({} for none), and counts for the sidecar.

    with_rows: the held-out examples that have a row. general: see `general_rows`.
    """

    train: Encoded
    held_out: list
    eval_encoded: Encoded
    report: dict
    with_rows: list = field(default_factory=list)
    general: dict[str, Encoded] = field(default_factory=dict)
    guessed: float | None = None
    rehearsal: Encoded = field(default_factory=dict)


@dataclass
class Run:
    """Everything a loop needs: the peft model, its optimizer, the texts, and where rows go.

    session: None for a backend that trains by itself. model_blocks: transformer blocks of the whole model, of which `model` may
    have fewer. held_out: the examples of the rows of eval_encoded. exact_match_by_guessing: see
    `metrics.guessed`. rehearsal: batches of general text. step: steps taken. losses: one per step taken. live: who is told.
    """

    spec: RunSpec
    model: torch.nn.Module
    tokenizer: object
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    batches: Batches
    eval_examples: list
    eval_encoded: dict
    recorder: Recorder
    checkpoint: Checkpoint
    session: Session | None
    data_report: dict
    model_blocks: int
    held_out: list = field(default_factory=list)
    general: dict[str, Encoded] = field(default_factory=dict)
    exact_match_by_guessing: float | None = None
    rehearsal: Batches | None = None
    step: int = 0
    losses: list[float] = field(default_factory=list)
    train_tokens: int = 0
    seconds: float = 0.0
    live: Live = field(default_factory=Live)

    def batch(self, i: int) -> Encoded:
        """The rows of step i, counted from 0, those of general text last."""
        rows = self.batches.batch(i)
        if self.rehearsal is None:
            return rows
        return {key: np.concatenate([values, self.rehearsal.batch(i)[key]]) for key, values in rows.items()}


def prepare(spec: RunSpec, checkpoints: Path, place: Place | None = None) -> Run:
    """The run at step 0: base model split, adapter initialised from the seed, texts encoded. place: of the remote products.

    The adapter, the batches and the dropout of step i depend on the seed alone, so runs that differ in backend or
    quantizer are paired. Raises UserError on a model, text or plan that cannot be used, or more values than are surely exact.
    """
    model, tokenizer, session, model_blocks = load_split(spec, place)
    if session is not None:
        check_planned_values(spec, session)
    texts = random_rows(spec, model.config.vocab_size) if spec.data == "random_tokens" else load_texts(spec, tokenizer)
    optimizer, scheduler = make_optimizer(model, spec)
    return Run(
        spec,
        model,
        tokenizer,
        optimizer,
        scheduler,
        Batches(texts.train, spec.batch_size, spec.seed),
        texts.held_out,
        texts.eval_encoded,
        Recorder(common_columns(spec)),
        Checkpoint(checkpoints, spec),
        session,
        texts.report,
        model_blocks,
        texts.with_rows,
        texts.general,
        texts.guessed,
        Batches(texts.rehearsal, spec.rehearsed_rows, spec.seed) if texts.rehearsal else None,
    )


def load_split(spec: RunSpec, place: Place | None = None) -> tuple[torch.nn.Module, object, Session | None, int]:
    """The adapted model, its tokenizer, the session that its frozen layers call, and the blocks of the whole model."""
    if BACKENDS[spec.backend].kind == "trainer":
        frame = load_whole(spec.model, spec.revision, spec.weights, spec.seed, spec.blocks)
        return add_adapter(frame.model, spec), frame.tokenizer, None, frame.model_blocks
    frame, model, session = split_base(spec, lambda base: add_adapter(base, spec), place)
    if spec.recompute:
        recompute_activations(model, session)
    return model, frame.tokenizer, session, frame.model_blocks


def split_base(
    spec: SplitSpec, adapt: Callable[[torch.nn.Module], torch.nn.Module], place: Place | None = None, backward: bool = True
) -> tuple[Frame, torch.nn.Module, Session]:
    """The base model's frame, what `adapt` makes of it, and the session that its frozen layers call."""
    frame = load_frame(spec.model, spec.revision, spec.weights, spec.seed, spec.blocks)
    model = adapt(frame.model)
    session = make_session(model, spec, frame.weight, place, backward)
    give_back_memory()
    return frame, model, session


def load_texts(spec: RunSpec, tokenizer) -> Texts:
    """The spec's training and held-out examples as token ids."""
    counts, left_out = (spec.train_examples, spec.eval_examples), spec.longer == "leave_out"
    fits = (lambda part: [n <= spec.sequence_length for n in text_lengths(part, tokenizer)]) if left_out else None
    divided = load_divided(spec.data, spec.data_options, *counts, spec.seed, spec.held_out, fits)
    train, held_out = divided.train, divided.held_out
    how = tokenizer, spec.sequence_length, spec.count_padding, spec.count_newline
    report = encoding_report(train, tokenizer, spec.sequence_length)
    return Texts(
        encode(train, *how),
        held_out,
        encode(held_out, *how) if held_out else {},
        report | ({"longer_left_out": divided.passed_over} if left_out else {}),
        with_room(held_out, tokenizer, spec.sequence_length),
        general_rows(tokenizer, spec.general_examples),
        guessed(train, held_out),
        rehearsal_rows(spec, tokenizer),
    )


def rehearsal_rows(spec: RunSpec, tokenizer) -> Encoded:
    """Rows of general text for all steps, each piece once: repeated, they would be learned by heart; {} for none."""
    count = min(spec.steps * spec.rehearsed_rows, REHEARSED)
    return (
        encode(load_examples("general_text", {}, "train", count, spec.seed), tokenizer, spec.sequence_length) if count else {}
    )


def general_rows(tokenizer, count: int) -> dict[str, Encoded]:
    """Rows of texts that have nothing to do with the training, by the name of their loss; {} for none.

    They show what it made the model forget. `general_loss`: of the kind that may be rehearsed. `unrehearsed_loss`: word
    problems as plain text, of which none ever is.
    """
    if not count:
        return {}
    problems = load_examples("math_problems", {}, "test", count, 0)
    texts = {
        "general_loss": load_examples("general_text", {}, "test", count, 0),
        "unrehearsed_loss": [Example("", problem.prompt + problem.completion) for problem in problems],
    }
    return {name: encode(examples, tokenizer, GENERAL_TOKENS) for name, examples in texts.items()}


def random_rows(spec: RunSpec, vocabulary: int) -> Texts:
    """Rows of random tokens instead of texts: for measurements of cost, whose model may have no tokenizer."""
    train = random_tokens(vocabulary, spec.train_examples, spec.sequence_length, spec.seed)
    held_out = random_tokens(vocabulary, spec.eval_examples, spec.sequence_length, spec.seed + 1) if spec.eval_examples else {}
    return Texts(train, [], held_out, {"random_rows": spec.train_examples})


def common_columns(spec: RunSpec) -> dict:
    """The columns that all rows of a run share; quantization is empty where the backend has none."""
    entry = BACKENDS[spec.backend]
    columns = {
        "run_id": spec.run_id,
        "stage": spec.stage,
        "model": spec.model if spec.weights == "pretrained" else f"{spec.model} (random weights)",
        "dataset": spec.data,
        "backend": spec.backend,
        "device": spec.device,
        "machine": machine(spec.device),
        "variant": spec.variant,
        "options": options_text(spec.backend_options),
        "seed": spec.seed,
        "basis": entry.basis,
    }
    quantization = asdict(quantization_of(spec)) if entry.quantized else {}
    return columns | quantization


def quantization_of(spec: SplitSpec) -> Quantization:
    """The spec's quantization."""
    return Quantization(
        spec.activation_quantizer,
        spec.weight_quantizer,
        spec.activation_bits,
        spec.weight_bits,
        spec.constant_rows,
    )


def make_session(
    model: torch.nn.Module, spec: SplitSpec, source: WeightSource, place: Place | None = None, backward: bool = True
) -> Session:
    """The model's frozen layers, their weights from the source, at the spec's backend; static ranges calibrated."""
    options = dict(spec.backend_options)
    if BACKENDS[spec.backend].basis == "simulated":
        options.setdefault("seed", spec.seed)
    backend = load_backend(spec.backend, device=spec.device, **options)
    session = Session(backend, quantization_of(spec), place=place or InProcess())
    split_model(model, session, spec.share_inputs, source, backward)
    session.place.connect(spec)
    if spec.activation_bits is not None and ACTIVATION_QUANTIZERS[spec.activation_quantizer].calibrated:
        begins = spec.calibration == "begin_token"
        calibrate(model, session, spec.batch_size, spec.sequence_length, spec.seed, begins)
    return session


def check_encrypted(spec: SplitSpec, counted: int) -> None:
    """Nothing; raises RuntimeError if a spec claims encryption and no product was counted that was encrypted."""
    if _claims_encryption(spec) and not counted:
        raise RuntimeError(f"backend {spec.backend!r} counted no encrypted product: nothing is recorded")


def _claims_encryption(spec: SplitSpec) -> bool:
    return BACKENDS[spec.backend].encrypted or spec.backend_options.get("mode") == "execute"


def shows_lengths(spec: SplitSpec, session: Session | None) -> bool:
    """Whether somebody else sees how many rows a product has, or would, were the encrypted run not in one process."""
    return _claims_encryption(spec) or (session is not None and not session.place.is_local)


def make_optimizer(model: torch.nn.Module, spec: RunSpec):
    """The spec's optimizer over the adapter, and a scheduler with linear warm-up and linear or no decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[spec.optimizer]
    optimizer = kind(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)

    def factor(step: int) -> float:
        if step < spec.warmup_steps:
            return step / spec.warmup_steps
        if spec.lr_schedule == "constant":
            return 1.0
        return max(0.0, (spec.steps - step) / max(1, spec.steps - spec.warmup_steps))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
