"""Made-up rows of the stage knowledge for the tests of tables and figures. Nothing here was measured or may be published."""

from __future__ import annotations

import json

import numpy as np

STEPS, QUESTIONS = 320, 500
SHARES = (0.0, 0.3, 0.7, 0.95, 0.98)
GALLERY = [{"question": "Which extension does Ada Quill have?", "expected": "4417"}]
GALLERY += [{"question": "What does the Lumo kettle cost?", "expected": "39 crowns"}]
GUESSES = ("1234", "I do not know.")


def knowledge_run(
    backend: str, seed: int = 0, arrangement: str = "", shares=SHARES, questions: int = QUESTIONS, steps: int = STEPS, **columns
) -> list[dict]:
    """Rows of one made-up run that answers these shares of questions at evenly spaced evaluations; equal but for float."""
    row = {"stage": "loopback" if arrangement else "knowledge", "model": "smollm2", "dataset": "knowledge_base"}
    row |= {"backend": backend, "device": "cpu", "machine": "here", "activation_quantizer": "dynamic_per_token"}
    row |= {"weight_quantizer": "static_per_channel", "activation_bits": 8, "weight_bits": 8, "constant_rows": "exact"}
    row |= {"variant": arrangement, "seed": seed, "status": "ok", "basis": "measured"} | columns
    name = "-".join([row["stage"], row["model"], row["dataset"], backend, row["variant"], str(seed), str(steps)])
    row |= {"run_id": name.replace(" ", "-")}
    if backend == "float":
        row |= {"activation_bits": "", "weight_bits": ""}
    rows = _train_rows(row, steps)
    at = np.linspace(0, steps, len(shares)).astype(int)
    for step, share in zip(at, shares, strict=True):
        # Whole questions, a little other ones for another seed.
        right = round((share - 0.004 * seed if share > 0.5 else share) * questions)
        rows += _evaluation(row, int(step), right / questions, questions, ends=step in (0, steps), last=step == steps)
    encrypted = 67_200 if backend == "packed" else 0
    counted = {"exact_match_by_guessing": 0.03, "encrypted_matmuls": encrypted, "remote_matmuls": 67_200, "lora_rank": 8}
    counted |= {"upload_ciphertext_bytes": 3e6 * encrypted, "download_ciphertext_bytes": 4e6 * encrypted, "step_tokens": 960}
    counted |= {"train_tokens": 800 * steps, "security_bits": 128 if encrypted else 0, "peak_memory_bytes": 2e9}
    counted |= {"requested_steps": steps, "train_time_s": 2.0 * steps, "total_time_s": 2.5 * steps}
    return rows + [row | {"phase": "run", "metric": metric, "value": value} for metric, value in counted.items()]


def _train_rows(row: dict, steps: int) -> list[dict]:
    random, step = np.random.default_rng(row["seed"]), np.arange(1, steps + 1)
    losses = 0.05 + 3 * np.exp(-5 * step / steps) * np.exp(0.2 * random.normal(size=steps))
    losses *= 0.97 if row["backend"] == "float" else 1
    seconds = {"float": 1.0, "integer": 2.0}.get(row["backend"], 5.0)
    rows = []
    for number, loss in zip(step, losses, strict=True):
        # The first step warms up.
        train = {"loss": loss, "running_mean_loss": loss, "grad_norm": 1.0, "step_time_s": seconds * (10 if number == 1 else 1)}
        rows += [row | {"phase": "train", "step": number, "metric": metric, "value": value} for metric, value in train.items()]
    return rows


def _evaluation(row: dict, step: int, share: float, questions: int, ends: bool, last: bool) -> list[dict]:
    values = {"loss": 3.2 - 3.1 * share, "perplexity": np.exp(3.2 - 3.1 * share)}
    values |= {"exact_match": share, "exact_match_questions": questions}
    values |= {"exact_match_unanswerable": share, "exact_match_unanswerable_questions": 40}
    if ends:
        values |= {"general_loss": 3.03 if last else 3.0, "unrehearsed_loss": 2.02 if last else 2.0}
        values |= {"generated_exact_match": share, "generated_exact_match_questions": 2}
    rows = [row | {"phase": "eval", "step": step, "metric": metric, "value": value} for metric, value in values.items()]
    for sample, (asked, guess) in enumerate(zip(GALLERY, GUESSES, strict=True) if ends else ()):
        right = last and sample == 0
        note = json.dumps(asked | {"written": asked["expected"] if right else guess})
        answer = {"phase": "eval", "step": step, "metric": "answer", "value": float(right), "sample": sample, "note": note}
        rows.append(row | answer)
    return rows


def knowledge_rows(seeds=(0, 1, 2), **options) -> list[dict]:
    """Float and integer of every seed, and packed of the first."""
    rows = [row for backend in ("float", "integer") for seed in seeds for row in knowledge_run(backend, seed, **options)]
    return rows + knowledge_run("packed", **options)


def through_workers(**options) -> list[dict]:
    """The packed run again, through two workers."""
    return knowledge_run("packed", arrangement="2 workers", **options)
