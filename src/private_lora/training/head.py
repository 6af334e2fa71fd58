"""Mean cross entropy of a batch; in chunks of rows where all logits at once would be the largest tensors of a step."""

from __future__ import annotations

import torch

from private_lora.backends.clear.arithmetic import onednn_product
from private_lora.data.encoding import IGNORED

# Logits of a batch up to which the model's own loss is taken, 268 MB of float32: its sums are in another order than those of
# chunks, so that the last digits differ, and losses of small models are compared digit for digit with older ones.
MOST_AT_ONCE = 2**26
CHUNK_ROWS = 256
# Models whose logits are the last hidden state times the head's weight and nothing else.
PLAIN_HEADS = ("llama", "gpt2", "qwen2")


def mean_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross entropy (nats) of a batch's labelled tokens, each given those before it; backward leads to the adapter.

    model: a peft model whose head is frozen. batch: input_ids, attention_mask and labels, B x T.
    """
    head = model.get_output_embeddings()
    if model.config.model_type not in PLAIN_HEADS or batch["labels"].numel() * len(head.weight) <= MOST_AT_ONCE:
        return model(**batch).loss
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    hidden = model.get_base_model().base_model(**inputs).last_hidden_state
    labels = batch["labels"][:, 1:]
    labelled = labels != IGNORED
    return ChunkedLoss.apply(hidden[:, :-1][labelled], head.weight, labels[labelled])


class ChunkedLoss(torch.autograd.Function):
    """Mean cross entropy of labels (R) given hidden states (R x H) and the frozen weight of a head (V x H).

    The weight has no gradient, so that of the hidden states is known with the loss, and no logits are kept for backward.
    """

    @staticmethod
    def forward(ctx, hidden, weight, labels):
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        total = hidden.new_zeros((), dtype=torch.float64)
        # Made once: blocks that come and go leave holes in which the next does not fit.
        buffer = hidden.new_empty(min(CHUNK_ROWS, len(hidden)), len(weight))
        for start in range(0, len(hidden), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            wanted = labels[rows, None]
            logarithms = torch.log_softmax(_product(hidden[rows], weight), dim=1, out=buffer[: len(wanted)])
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
