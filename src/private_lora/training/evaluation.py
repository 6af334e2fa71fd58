"""Evaluation of a (split) model: mean loss per labelled token, and greedy answers to prompts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from private_lora.data.encoding import IGNORED, Encoded, prompt_ids
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
def evaluate_losses(model, encoded: Encoded, batch_size: int, count_padding: bool) -> Evaluation:
    """Mean cross entropy (nats) over the labelled tokens of `encoded`, as `loss`; the model is left in training mode.

    With `count_padding`, where padding is labelled, also as `loss_without_padding` over those that are not padding: of the same
    pass, because a second one would be encrypted, counted and noisy for itself. So are the answers, in which no padding counts.
    """
    model.eval()
    totals, tokens, answered = defaultdict(float), defaultdict(int), []
    names = ("loss", "loss_without_padding") if count_padding else ("loss",)
    for start in range(0, len(encoded["input_ids"]), batch_size):
        batch = to_tensors({key: values[start : start + batch_size] for key, values in encoded.items()})
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
        answered.append(right.numpy())
    model.train()
    return Evaluation({name: totals[name] / tokens[name] for name in names}, np.concatenate(answered))


def _summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum of the cross entropies of the labels (rows x T - 1), each given the logits (rows x T x vocabulary) before it."""
    before = logits[:, :-1].flatten(0, 1).float()
    return float(torch.nn.functional.cross_entropy(before, labels.flatten(), ignore_index=IGNORED, reduction="sum"))


@torch.no_grad()
def greedy_answers(model, tokenizer, examples, new_tokens: int, batch_size: int) -> list[str]:
    """What the model writes after each prompt, greedily, up to `new_tokens` tokens or its end token."""
    model.eval()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    texts = []
    for start in range(0, len(examples), batch_size):
        prompts = prompt_ids(examples[start : start + batch_size], tokenizer)
        width = max(len(ids) for ids in prompts)
        tokens = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
        written = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
        )
        texts += tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
    model.train()
    return texts
