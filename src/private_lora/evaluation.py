"""Evaluation of a (split) model: mean loss per answer token, and greedy answers to prompts."""

from __future__ import annotations

import torch

from private_lora.encoding import IGNORED, Encoded, prompt_ids


def to_tensors(batch: Encoded) -> dict[str, torch.Tensor]:
    """The arrays of a batch as torch tensors."""
    return {key: torch.from_numpy(values) for key, values in batch.items()}


@torch.no_grad()
def evaluate_loss(model, encoded: Encoded, batch_size: int) -> float:
    """Mean cross entropy (nats) over all labelled tokens of `encoded`; the model is left in training mode."""
    model.eval()
    total, tokens = 0.0, 0
    for start in range(0, len(encoded["input_ids"]), batch_size):
        batch = to_tensors({key: values[start : start + batch_size] for key, values in encoded.items()})
        labelled = int((batch["labels"][:, 1:] != IGNORED).sum())
        total += float(model(**batch).loss) * labelled
        tokens += labelled
    model.train()
    return total / tokens


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
