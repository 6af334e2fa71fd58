"""Evaluation of a (split) model: mean loss per labelled token, and greedy answers to prompts."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from private_lora.data.encoding import IGNORED, Encoded, prompt_ids
from private_lora.data.examples import Example
from private_lora.training.head import loss_and_answers, right_rows


def to_tensors(batch: Encoded) -> dict[str, torch.Tensor]:
    """The arrays of a batch as torch tensors."""
    return {key: torch.from_numpy(values) for key, values in batch.items()}


@dataclass
class Evaluation:
    """Losses by name (nats per labelled token), and which rows were answered to the last token (N, bool)."""

    losses: dict[str, float]
    answered: np.ndarray


@torch.no_grad()
def evaluate_losses(model, encoded: Encoded, batch_size: int, count_padding: bool, rows: int = 0) -> Evaluation:
    """Mean cross entropy (nats) over the labelled tokens of `encoded`, as `loss`; the model is left in training mode.

    With `count_padding`, where padding is labelled, also as `loss_without_padding` over those that are not padding: of the same
    pass, because a second one would be encrypted, counted and noisy for itself. So are the answers, in which no padding counts.

    rows: are computed at least, so that workers cannot count examples that had no row: the last one again, which counts once.
    """
    model.eval()
    totals, tokens, answered = defaultdict(float), defaultdict(int), []
    names = ("loss", "loss_without_padding") if count_padding else ("loss",)
    known = len(encoded["input_ids"])
    order = np.minimum(np.arange(max(rows, known)), known - 1)
    for start in range(0, len(order), batch_size):
        kept = known - start
        batch = to_tensors({key: values[order[start : start + batch_size]] for key, values in encoded.items()})
        if kept <= 0:
            model(**batch)
            continue
        batch["labels"][kept:] = IGNORED
        labels = batch["labels"][:, 1:]
        labelled = int((labels != IGNORED).sum())
        if count_padding:
            output = model(**batch)
            texts = labels.masked_fill(batch["attention_mask"][:, 1:] == 0, IGNORED)
            loss, right = float(output.loss), right_rows(output.logits, texts)
            totals["loss_without_padding"] += _summed_loss(output.logits, texts)
            tokens["loss_without_padding"] += int((texts != IGNORED).sum())
        else:
            loss, right = loss_and_answers(model, batch)
        totals["loss"] += loss * labelled
        tokens["loss"] += labelled
        answered.append(right.numpy()[:kept])
    model.train()
    return Evaluation({name: totals[name] / tokens[name] for name in names}, np.concatenate(answered))


def _summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum of the cross entropies of the labels (rows x T - 1), each given the logits (rows x T x vocabulary) before it."""
    before = logits[:, :-1].flatten(0, 1).float()
    return float(torch.nn.functional.cross_entropy(before, labels.flatten(), ignore_index=IGNORED, reduction="sum"))


@torch.no_grad()
def greedy_answers(
    model, tokenizer, examples: Sequence[Example], new_tokens: int, batch_size: int, prompt_tokens: int | None = None
) -> list[str]:
    """What the model writes after each prompt, greedily, up to `new_tokens` tokens or its end token.

    prompt_tokens: all prompts are padded, or cut at their beginning, to so many, and all of `new_tokens` are computed, so that
    workers see neither length; by default to the longest of a batch, and until the last of its texts has ended.
    """
    model.eval()
    end = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    texts = []
    settings = {"max_new_tokens": new_tokens, "do_sample": False, "use_cache": True, "pad_token_id": pad}
    with _generating(model, **settings, eos_token_id=end if prompt_tokens is None else None):
        for start in range(0, len(examples), batch_size):
            prompts = [
                ids[-prompt_tokens:] if prompt_tokens else ids
                for ids in prompt_ids(examples[start : start + batch_size], tokenizer)
            ]
            width = prompt_tokens or max(len(ids) for ids in prompts)
            tokens = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts])
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
            written = model.generate(input_ids=tokens, attention_mask=mask)[:, width:].tolist()
            texts += tokenizer.batch_decode([_until(end, ids) for ids in written], skip_special_tokens=True)
    model.train()
    return texts


@contextmanager
def _generating(model, **settings) -> Iterator[None]:
    """The model's own settings of generation with these; given to `generate`, None would stand for the model's end token."""
    before = model.generation_config
    model.generation_config = copy.deepcopy(before)
    model.generation_config.update(**settings)
    try:
        yield
    finally:
        model.generation_config = before


def _until(end: int | None, ids: list[int]) -> list[int]:
    """The tokens before the end token."""
    return ids[: ids.index(end)] if end in ids else ids
