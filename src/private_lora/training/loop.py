"""One fine-tuning loop for all backends: LoRA, loss and optimizer at the client, frozen products at the backend."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict

import torch

from private_lora.core.errors import Interrupted
from private_lora.data.examples import Example
from private_lora.specs.data import DATASETS
from private_lora.specs.run import RunSpec
from private_lora.training.compression import bits_per_byte_rows
from private_lora.training.evaluation import evaluate_losses, greedy_answers, to_tensors
from private_lora.training.head import mean_loss
from private_lora.training.metrics import exact_matches, perplexity, right_texts, running_mean
from private_lora.training.preparation import Run, shows_lengths
from private_lora.training.probes import probe_zero_rows

GENERATED_TOKENS = 64


def train(run: Run) -> None:
    """Steps up to the spec's, from the last checkpoint if there is one; rows go to the run's recorder.

    Raises FloatingPointError when a loss or an activation stops being finite.
    """
    restore(run)
    run.model.train()
    run.live.start(run)
    try:
        evaluate_if_due(run)
        _take_steps(run)
    except Interrupted:
        # No step is half done: the optimizer comes last in it, so what was trained up to here is saved.
        save(run)
        raise


def _take_steps(run: Run) -> None:
    spec, saved = run.spec, run.step
    while run.step < spec.steps:
        train_step(run)
        evaluate_if_due(run)
        # A checkpoint that could not be written is tried again after the next step.
        if (run.step == spec.steps or run.step // spec.checkpoint_every > saved // spec.checkpoint_every) and save(run):
            saved = run.step


def train_step(run: Run) -> None:
    """One optimizer step and its rows. Checks of approximate answers and probes count in its CPU time, not in its time."""
    spec, start, checked = run.spec, time.perf_counter(), run.session.timings.check_s
    cpu_start = time.process_time()
    arrays = run.batch(run.step)
    learning_rate = run.scheduler.get_last_lr()[0]
    seed_dropout(spec, run.step)
    run.session.backend.start_step(run.step)
    loss = mean_loss(run.model, to_tensors(arrays))
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is {value} at step {run.step + 1}")
    loss.backward(retain_graph=bool(spec.zero_row_probes))
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    probing = time.perf_counter()
    probe_zero_rows(run, loss, parameters)
    start += time.perf_counter() - probing
    norm = clip_gradients(parameters, spec.max_grad_norm)
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad()
    run.train_tokens += int(arrays["attention_mask"].sum())
    seconds = time.perf_counter() - start - (run.session.timings.check_s - checked)
    record_step(run, value, norm, learning_rate, seconds, time.process_time() - cpu_start)


def clip_gradients(parameters: list[torch.nn.Parameter], largest: float | None) -> float:
    """The norm of all gradients together, before they are scaled to the largest that it may have; None: they are left alone."""
    if largest is None:
        return float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    return float(torch.nn.utils.clip_grad_norm_(parameters, largest))


def seed_dropout(spec: RunSpec, step: int) -> None:
    """Make the dropout of a step (counted from 0) a function of (seed, step): the same for every backend and after a resume."""
    torch.manual_seed(spec.seed * 1_000_003 + step)


def record_step(
    run: Run, loss: float, grad_norm: float, learning_rate: float, seconds: float, cpu_seconds: float | None = None
) -> None:
    """Rows of one training step; counts it, and tells of it. cpu_seconds: of all threads of this process, where it trains."""
    run.step += 1
    run.losses.append(loss)
    run.seconds += seconds
    columns = {"phase": "train", "step": run.step}
    run.recorder.add("loss", loss, "nats", **columns)
    run.recorder.add("running_mean_loss", running_mean(run.losses)[-1], "nats", **columns)
    run.recorder.add("grad_norm", grad_norm, "", **columns)
    run.recorder.add("learning_rate", learning_rate, "", **columns)
    run.recorder.add("step_time_s", seconds, "s", **columns)
    if cpu_seconds is not None:
        run.recorder.add("step_cpu_time_s", cpu_seconds, "s", **columns)
    run.live.on_step(run, loss, grad_norm, learning_rate, seconds)


def evaluate_if_due(run: Run) -> None:
    """Evaluate at the first and the last step and every `eval_every` steps, unless an interrupted run did so at this step."""
    spec, ends = run.spec, run.step in (0, run.spec.steps)
    done = any(row["phase"] == "eval" and row["step"] == run.step for row in run.recorder.rows)
    if not done and (ends or (spec.eval_every and run.step % spec.eval_every == 0)):
        evaluate(run, ends)


def evaluate(run: Run, ends: bool) -> None:
    """Rows with held-out loss, perplexity and exact match; through the run's own backend. ends: of a run, where more is asked.

    Where padding counts, loss and perplexity without it too; of text without questions, bits per byte. Rows are added when
    everything is known, so that none is twice.
    """
    if not run.eval_encoded:
        return
    spec, columns = run.spec, {"phase": "eval", "step": run.step}
    found = evaluate_losses(run.model, run.eval_encoded, 2 * spec.batch_size, spec.count_padding, spec.eval_examples)
    rows = []
    for name, loss in found.losses.items():
        rows += [(name, loss, "nats"), (name.replace("loss", "perplexity"), perplexity(loss), "")]
    rows += bits_per_byte_rows(run, found.losses)
    for name, general in run.general.items() if ends else ():
        rows.append((name, evaluate_losses(run.model, general, 2 * spec.batch_size, False).losses["loss"], "nats"))
    rows += exact_matches(run.held_out, found.answered)
    written = _written(run) if spec.generate_examples and ends else []
    if written:
        # Where whole completions are compared, they are so for all held-out examples, by `exact_matches`.
        name = "exact_match" if any(example.answer for example, _, _ in written) else "generated_exact_match"
        right = [is_right for _, _, is_right in written if is_right is not None]
        rows += [(name, sum(right) / len(right), "fraction"), (f"{name}_questions", len(right), "")]
    for name, value, unit in rows:
        run.recorder.add(name, value, unit, **columns)
    # What a user's own model writes of a user's own texts is nobody else's business.
    for sample, (example, text, is_right) in enumerate(written if DATASETS[spec.data].is_public else []):
        note = json.dumps({"question": example.prompt.strip(), "expected": example.completion, "written": text})
        run.recorder.add("answer", float(bool(is_right)), sample=sample, note=note, **columns)
    run.live.on_evaluation(run, rows)


def _written(run: Run) -> list[tuple[Example, str, bool | None]]:
    """Examples, what the model writes after their prompts, and whether it is right; None where nothing says so."""
    spec, examples = run.spec, run.eval_examples[: run.spec.generate_examples]
    width = spec.sequence_length if spec.pad == "configured" and shows_lengths(spec, run.session) else None
    texts = greedy_answers(run.model, run.tokenizer, examples, GENERATED_TOKENS, 4 * spec.batch_size, width)
    return list(zip(examples, texts, right_texts(texts, examples), strict=True))


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
            "stages": asdict(session.timings),
            "noise": asdict(session.noise),
            "overflow": asdict(session.overflow),
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
    run.session.resume(state["stages"], state["noise"], state.get("overflow", {}), state["counters"])
