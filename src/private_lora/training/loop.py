"""One fine-tuning loop for all backends: LoRA, loss and optimizer at the client, frozen products at the backend."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from private_lora.backends import load as load_backend
from private_lora.core.errors import Interrupted
from private_lora.core.memory import give_back_memory
from private_lora.data.encoding import Batches, Encoded, encode, encoding_report
from private_lora.data.load import load_examples
from private_lora.data.sources.random_tokens import random_tokens
from private_lora.models.load import load_base
from private_lora.models.stream import WeightSource, load_frame
from private_lora.results.provenance import machine
from private_lora.results.recorder import Recorder
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS
from private_lora.specs.quantization import Quantization
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.specs.run import RunSpec
from private_lora.split.linear import calibrate, split_model
from private_lora.split.place import InProcess, Place
from private_lora.split.recompute import recompute_activations
from private_lora.split.session import Session
from private_lora.training.checkpoints import Checkpoint
from private_lora.training.evaluation import evaluate_losses, greedy_answers, to_tensors
from private_lora.training.metrics import exact_match, perplexity, running_mean

GENERATED_TOKENS = 64


@dataclass
class Texts:
    """Encoded training rows, held-out examples and their rows ({} for none), and counts for the sidecar."""

    train: Encoded
    held_out: list
    eval_encoded: Encoded
    report: dict


@dataclass
class Run:
    """Everything a loop needs: the peft model, its optimizer, the texts, and where rows go.

    session: None for a backend that trains by itself. model_blocks: transformer blocks of the whole model, of which `model` may
    have fewer. step: steps taken. losses: one per step taken.
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
    step: int = 0
    losses: list[float] = field(default_factory=list)
    train_tokens: int = 0
    seconds: float = 0.0


def prepare(spec: RunSpec, checkpoints: Path, place: Place | None = None) -> Run:
    """The run at step 0: base model split, adapter initialised from the seed, texts encoded. place: of the remote products.

    The adapter, the batches and the dropout of step i depend on the seed alone, so runs that differ in backend or
    quantizer are paired. Raises UserError on a model, text or plan that cannot be used.
    """
    model, tokenizer, session, model_blocks = load_split(spec, place)
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
    )


def load_split(spec: RunSpec, place: Place | None = None) -> tuple[torch.nn.Module, object, Session | None, int]:
    """The adapted model, its tokenizer, the session that its frozen layers call, and the blocks of the whole model."""
    if BACKENDS[spec.backend].kind == "trainer":
        base, tokenizer = load_base(spec.model, revision=spec.revision, weights=spec.weights, seed=spec.seed)
        return add_adapter(base, spec), tokenizer, None, base.config.num_hidden_layers
    frame = load_frame(spec.model, spec.revision, spec.weights, spec.seed, spec.blocks)
    model = add_adapter(frame.model, spec)
    session = make_session(model, spec, frame.weight, place)
    give_back_memory()
    if spec.recompute:
        recompute_activations(model, session)
    return model, frame.tokenizer, session, frame.model_blocks


def load_texts(spec: RunSpec, tokenizer) -> Texts:
    """The spec's training and held-out examples as token ids."""
    train = load_examples(spec.data, spec.data_options, "train", spec.train_examples, spec.seed)
    held_out = load_examples(spec.data, spec.data_options, "test", spec.eval_examples, 0)
    return Texts(
        encode(train, tokenizer, spec.sequence_length, spec.count_padding),
        held_out,
        encode(held_out, tokenizer, spec.sequence_length, spec.count_padding) if held_out else {},
        encoding_report(train, tokenizer, spec.sequence_length),
    )


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


def quantization_of(spec: RunSpec) -> Quantization:
    """The spec's quantization."""
    return Quantization(
        spec.activation_quantizer,
        spec.weight_quantizer,
        spec.activation_bits,
        spec.weight_bits,
        spec.constant_rows,
    )


def add_adapter(base: torch.nn.Module, spec: RunSpec) -> torch.nn.Module:
    """The base model with LoRA on all its linear layers but the output head, initialised from the seed."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    has_conv1d = any(isinstance(m, Conv1D) for m in base.modules())
    config = LoraConfig(
        r=spec.lora_rank,
        lora_alpha=spec.lora_alpha,
        lora_dropout=spec.lora_dropout,
        target_modules="all-linear",
        fan_in_fan_out=has_conv1d,
        task_type="CAUSAL_LM",
    )
    base.config.use_cache = False
    torch.manual_seed(spec.seed)
    return get_peft_model(base, config)


def make_session(model: torch.nn.Module, spec: RunSpec, source: WeightSource, place: Place | None = None) -> Session:
    """The model's frozen layers, their weights from the source, at the spec's backend; static ranges calibrated."""
    options = dict(spec.backend_options)
    if BACKENDS[spec.backend].basis == "simulated":
        options.setdefault("seed", spec.seed)
    backend = load_backend(spec.backend, device=spec.device, **options)
    session = Session(backend, quantization_of(spec), place=place or InProcess())
    split_model(model, session, spec.share_inputs, source)
    session.place.connect(spec)
    if spec.activation_bits is not None and ACTIVATION_QUANTIZERS[spec.activation_quantizer].calibrated:
        calibrate(model, session, spec.batch_size, spec.sequence_length, spec.seed)
    return session


def make_optimizer(model: torch.nn.Module, spec: RunSpec):
    """AdamW over the adapter, and a scheduler with linear warm-up and linear or no decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)

    def factor(step: int) -> float:
        if step < spec.warmup_steps:
            return step / spec.warmup_steps
        if spec.lr_schedule == "constant":
            return 1.0
        return max(0.0, (spec.steps - step) / max(1, spec.steps - spec.warmup_steps))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train(run: Run, progress: bool = True) -> None:
    """Steps up to the spec's, from the last checkpoint if there is one; rows go to the run's recorder.

    Raises FloatingPointError when a loss or an activation stops being finite.
    """
    restore(run)
    run.model.train()
    try:
        evaluate_if_due(run)
        _take_steps(run, progress)
    except Interrupted:
        # No step is half done: the optimizer comes last in it, so what was trained up to here is saved.
        save(run)
        raise


def _take_steps(run: Run, progress: bool) -> None:
    spec, saved = run.spec, run.step
    bar = tqdm(total=spec.steps, initial=run.step, desc=spec.run_id, disable=not progress, mininterval=2)
    while run.step < spec.steps:
        train_step(run)
        bar.update()
        bar.set_postfix(loss=f"{run.losses[-1]:.3f}", refresh=False)
        evaluate_if_due(run)
        # A checkpoint that could not be written is tried again after the next step.
        if (run.step == spec.steps or run.step // spec.checkpoint_every > saved // spec.checkpoint_every) and save(run):
            saved = run.step
    bar.close()


def train_step(run: Run) -> None:
    """One optimizer step and its rows. Checks of approximate answers are not counted in its time."""
    spec, start, checked = run.spec, time.perf_counter(), run.session.stages.check_s
    arrays = run.batches.batch(run.step)
    learning_rate = run.scheduler.get_last_lr()[0]
    seed_dropout(spec, run.step)
    run.session.backend.start_step(run.step)
    loss = run.model(**to_tensors(arrays)).loss
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is {value} at step {run.step + 1}")
    loss.backward()
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, spec.max_grad_norm))
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad()
    run.train_tokens += int(arrays["attention_mask"].sum())
    seconds = time.perf_counter() - start - (run.session.stages.check_s - checked)
    record_step(run, value, norm, learning_rate, seconds)


def seed_dropout(spec: RunSpec, step: int) -> None:
    """Make the dropout of a step (counted from 0) a function of (seed, step): the same for every backend and after a resume."""
    torch.manual_seed(spec.seed * 1_000_003 + step)


def record_step(run: Run, loss: float, grad_norm: float, learning_rate: float, seconds: float) -> None:
    """Rows of one training step; counts it."""
    run.step += 1
    run.losses.append(loss)
    run.seconds += seconds
    columns = {"phase": "train", "step": run.step}
    run.recorder.add("loss", loss, "nats", **columns)
    run.recorder.add("running_mean_loss", running_mean(run.losses)[-1], "nats", **columns)
    run.recorder.add("grad_norm", grad_norm, "", **columns)
    run.recorder.add("learning_rate", learning_rate, "", **columns)
    run.recorder.add("step_time_s", seconds, "s", **columns)


def evaluate_if_due(run: Run) -> None:
    """Evaluate at the first and the last step and every `eval_every` steps, unless an interrupted run did so at this step."""
    spec, ends = run.spec, run.step in (0, run.spec.steps)
    done = any(row["phase"] == "eval" and row["step"] == run.step for row in run.recorder.rows)
    if not done and (ends or (spec.eval_every and run.step % spec.eval_every == 0)):
        evaluate(run, generate=ends and spec.generate_examples > 0)


def evaluate(run: Run, generate: bool) -> None:
    """Rows with held-out loss, perplexity and, if asked for, exact match; through the run's own backend.

    Where padding counts, loss and perplexity without it too. Rows are added when everything is known, so that none is twice.
    """
    if not run.eval_encoded:
        return
    spec, columns = run.spec, {"phase": "eval", "step": run.step}
    losses = evaluate_losses(run.model, run.eval_encoded, 2 * spec.batch_size, spec.count_padding)
    if generate:
        examples = run.eval_examples[: spec.generate_examples]
        texts = greedy_answers(run.model, run.tokenizer, examples, GENERATED_TOKENS, 4 * spec.batch_size)
    for name, loss in losses.items():
        run.recorder.add(name, loss, "nats", **columns)
        run.recorder.add(name.replace("loss", "perplexity"), perplexity(loss), "", **columns)
    if generate:
        run.recorder.add("exact_match", exact_match(texts, examples), "fraction", **columns)


def trainable_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The adapter's tensors by parameter name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def save(run: Run) -> bool:
    """Whether the checkpoint of the present step could be written."""
    session = run.session
    return run.checkpoint.save(
        {
            "step": run.step,
            "losses": run.losses,
            "train_tokens": run.train_tokens,
            "seconds": run.seconds,
            "rows": run.recorder.rows,
            "adapter": trainable_state(run.model),
            "optimizer": run.optimizer.state_dict(),
            "scheduler": run.scheduler.state_dict(),
            "stages": asdict(session.stages),
            "noise": asdict(session.noise),
            "counters": asdict(session.counters),
        }
    )


def restore(run: Run) -> None:
    """Continue from the last checkpoint, if there is one."""
    state = run.checkpoint.load()
    if state is None:
        return
    parameters = dict(run.model.named_parameters())
    with torch.no_grad():
        for name, values in state["adapter"].items():
            parameters[name].copy_(values)
    run.optimizer.load_state_dict(state["optimizer"])
    run.scheduler.load_state_dict(state["scheduler"])
    run.step, run.losses = state["step"], state["losses"]
    run.train_tokens, run.seconds = state["train_tokens"], state["seconds"]
    run.recorder.resume(state["rows"])
    run.session.resume(state["stages"], state["noise"], state["counters"])
