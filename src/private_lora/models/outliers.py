"""Planted massive activations: the same function, as hard to quantize per tensor as a large language model.

Large models have a few hidden units that are hundreds to thousands of times larger than the rest at the first
token (Sun et al., "Massive Activations in Large Language Models", arXiv 2402.17762). They make static and
per-tensor quantization fail. A model of a few million weights has none, so a study on it alone would call
those quantizers harmless. This module adds such units where the model's output cannot see them.
"""

import torch
from torch import nn

from private_lora.models.pretraining import english

NEURONS = 4
SAMPLE_ROWS, SAMPLE_LENGTH = 144, 64
SIZE = 3.0  # largest new weight, in units of the largest old weight of the same matrix
MARGIN = 3.0  # how far below zero the gate should be at every other token
PENALTY = 100.0  # of a gate above -MARGIN at other tokens, against a large gate at the first token
FIT_STEPS = 400


@torch.no_grad()
def plant_outliers(model, tokenizer, neurons=NEURONS):
    """Adds `neurons` units to every MLP of a Llama, in place: huge at the first token, unseen in the output.

    Their gate opens for the beginning token and is shut for other tokens, their up row is as large as it can
    be there, with alternating sign, and their columns of down_proj are zero. So every output stays what it
    was, and the input of down_proj at the first token is hundreds of times the usual. No new weight is larger
    than SIZE times the largest one of its matrix: it is the activations that become hard to quantize.

    All layers but the first one become so: there, the beginning token is too much like others. Fine-tuning may
    move the first token's hidden state, and with it the units, in the later layers.
    """
    states = mlp_inputs(model, sample_tokens(tokenizer))
    for layer, hidden in zip(model.model.layers, states, strict=True):
        mlp, first, others = layer.mlp, hidden[0, 0], hidden[:, 1:].flatten(0, 1)
        gate = fit_gate(first, others, SIZE * mlp.gate_proj.weight.abs().max())
        up = SIZE * mlp.up_proj.weight.abs().max() * first.sign()
        signs = torch.tensor([1.0, -1.0]).repeat(neurons)[:neurons, None]
        mlp.gate_proj = with_rows(mlp.gate_proj, gate.repeat(neurons, 1))
        mlp.up_proj = with_rows(mlp.up_proj, signs * up)
        mlp.down_proj = with_zero_columns(mlp.down_proj, neurons)
        mlp.intermediate_size += neurons
    model.config.intermediate_size += neurons


def sample_tokens(tokenizer):
    """Rows of tokens (144 x 64) behind a beginning token: 96 of generated English, 48 of random tokens."""
    row_length, english_rows = SAMPLE_LENGTH - 1, 2 * SAMPLE_ROWS // 3
    stream, index = [], 0
    while len(stream) < english_rows * row_length:
        stream += tokenizer.encode(english.document(index, seed=1), add_special_tokens=False)
        index += 1
    text = torch.tensor(stream[: english_rows * row_length]).reshape(english_rows, row_length)
    plain = torch.tensor(sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids)))
    generator = torch.Generator().manual_seed(1)
    picks = torch.randint(len(plain), (SAMPLE_ROWS - english_rows, row_length), generator=generator)
    begin = torch.full((SAMPLE_ROWS, 1), tokenizer.bos_token_id)
    return torch.cat([begin, torch.cat([text, plain[picks]])], dim=1)


def mlp_inputs(model, tokens):
    """What each layer's MLP gets for the tokens: a list of rows x length x hidden tensors."""
    states = []
    hooks = [layer.mlp.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])) for layer in model.model.layers]
    model.eval()(input_ids=tokens, use_cache=False)
    for hook in hooks:
        hook.remove()
    return states


def fit_gate(first, others, bound):
    """A row of weights (hidden) within +-bound: large at `first`, below -MARGIN at the rows of `others`.

    Projected gradient on PENALTY * mean(max(0, row.other + MARGIN)^2) - row.first, a convex problem.
    """
    step = 1 / (2 * PENALTY * torch.linalg.matrix_norm(others, 2) ** 2 / len(others))
    row = bound * first.sign()
    for _ in range(FIT_STEPS):
        excess = (others @ row + MARGIN).clamp(min=0)
        gradient = 2 * PENALTY * (excess @ others) / len(others) - first
        row = (row - step * gradient).clamp(-bound, bound)
    return row


def with_rows(linear, rows):
    """A Linear without bias whose weight is the old one with `rows` below it: that many outputs more."""
    return linear_of(torch.cat([linear.weight, rows]))


def with_zero_columns(linear, count):
    """A Linear without bias whose weight is the old one with `count` zero columns: that many inputs more."""
    return linear_of(nn.functional.pad(linear.weight, (0, count)))


def linear_of(weight):
    """A Linear without bias around a weight (outputs x inputs)."""
    linear = nn.Linear(*weight.shape[::-1], bias=False)
    linear.weight = nn.Parameter(weight.clone())
    return linear
