"""Mean cross entropy of a batch; of its labelled tokens alone, in chunks, where all logits would be most of a step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from private_lora.backends.clear.arithmetic import onednn_product
from private_lora.data.encoding import IGNORED

# Logits of a batch up to which the model's own loss is taken, 67 MB of float32: its sums are in another order than those of
# chunks, so that the last digits differ, and losses of small models are compared digit for digit with older ones.
MOST_AT_ONCE = 2**24
CHUNK_ROWS = 256
# Models whose logits are the last hidden state times the head's weight and nothing else.
PLAIN_HEADS = ("llama", "gpt2", "qwen2")


def mean_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross entropy (nats) of a batch's labelled tokens, each given those before it; backward leads to the adapter.

    model: a peft model whose head is frozen. batch: input_ids, attention_mask and labels, B x T.
    """
    if _is_small(model, batch):
        return model(**batch).loss
    return ChunkedLoss.apply(*_labelled(model, batch))


@torch.no_grad()
def loss_and_answers(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """`mean_loss`, and for each row whether each of its labelled tokens is the likeliest after those before it (B, bool).

    A row for which that holds is what the model itself would write after the unlabelled tokens, always taking the likeliest.
    """
    labels = batch["labels"][:, 1:]
    if _is_small(model, batch):
        output = model(**batch)
        return float(output.loss), right_rows(output.logits, labels)
    right = labels == IGNORED
    hidden, weight, wanted = _labelled(model, batch)
    total, hits = 0.0, torch.empty_like(wanted, dtype=torch.bool)
    for rows, logarithms in _chunks(hidden, weight):
        total -= float(logarithms.gather(1, wanted[rows, None]).sum(dtype=torch.float64))
        hits[rows] = logarithms.argmax(1) == wanted[rows]
    right[~right] = hits
    return total / len(wanted), right.all(1)


def right_rows(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Which rows (B, bool) have each label (B x T - 1) as the likeliest token by the logits before it (B x T x V)."""
    return ((logits[:, :-1].argmax(-1) == labels) | (labels == IGNORED)).all(1)


def _is_small(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> bool:
    """Whether the model's own loss is taken, of all logits at once."""
    logits = batch["labels"].numel() * len(model.get_output_embeddings().weight)
    return model.config.model_type not in PLAIN_HEADS or logits <= MOST_AT_ONCE


def _labelled(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states before the labelled tokens (R x H), the head's weight (V x H), and those tokens (R)."""
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    hidden = model.get_base_model().base_model(**inputs).last_hidden_state
    labels = batch["labels"][:, 1:]
    labelled = labels != IGNORED
    return hidden[:, :-1][labelled], model.get_output_embeddings().weight, labels[labelled]


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows, and the logarithms of their tokens' probabilities, in a buffer that the next chunk overwrites."""
    # Made once: blocks that come and go leave holes in which the next does not fit.
    buffer = hidden.new_empty(min(CHUNK_ROWS, len(hidden)), len(weight))
    for start in range(0, len(hidden), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        logits = _product(hidden[rows], weight)
        yield rows, torch.log_softmax(logits, dim=1, out=buffer[: len(logits)])


class ChunkedLoss(torch.autograd.Function):
    """Mean cross entropy of labels (R) given hidden states (R x H) and the frozen weight of a head (V x H).

    The weight has no gradient, so that of the hidden states is known with the loss, and no logits are kept for backward.
    """

    @staticmethod
    def forward(ctx, hidden, weight, labels):
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        total = hidden.new_zeros((), dtype=torch.float64)
        for rows, logarithms in _chunks(hidden, weight):
            wanted = labels[rows, None]
            total -= logarithms.gather(1, wanted).sum(dtype=torch.float64)
            if gradient is not None:
                excess = logarithms.exp_()
                excess.scatter_add_(1, wanted, excess.new_full(wanted.shape, -1.0))
                gradient[rows] = _product(excess, weight.T)
        ctx.save_for_backward(gradient)
        return (total / len(hidden)).to(hidden.dtype)

    @staticmethod
    def backward(ctx, outer):
        (gradient,) = ctx.saved_tensors
        return gradient * (outer / len(gradient)), None, None


def _product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x times the transposed weight, float32 by oneDNN: torch's own product is MKL's, half as fast on processors of AMD's."""
    if x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return onednn_product(x, weight)
    return x @ weight.T
