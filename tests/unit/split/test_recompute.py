"""Activations recomputed in backward: the same numbers, the same remote calls, less kept."""

import pytest
import torch
from slow_tests import slow

from private_lora.training.loop import train_step
from private_lora.training.preparation import prepare


def two_steps(make_spec, directory, **fields):
    """Losses, gradient norms, adapter and products of two steps, with dropout."""
    run = prepare(make_spec(lora_dropout=0.1, eval_examples=0, **fields), directory)
    run.model.train()
    for _ in range(2):
        train_step(run)
    rows = [row["value"] for row in run.recorder.rows if row["metric"] in ("loss", "grad_norm")]
    adapter = {name: p.detach() for name, p in run.model.named_parameters() if p.requires_grad}
    return rows, adapter, run.session.counters.products


@pytest.mark.parametrize(
    ("backend", "share_inputs", "model"),
    [
        ("float", False, "llama"),
        ("integer", True, "gpt2"),
        ("packed", True, "llama"),
        slow("float", True, "llama"),
        slow("float", True, "gpt2"),
        slow("float", False, "gpt2"),
        slow("integer", True, "llama"),
        slow("integer", False, "llama"),
        slow("integer", False, "gpt2"),
        slow("packed", False, "llama"),
        slow("packed", True, "gpt2"),
        slow("packed", False, "gpt2"),
    ],
)
def test_losses_adapter_and_calls_are_those_of_a_model_that_keeps_all(
    backend, share_inputs, model, make_spec, tmp_path, tiny_llama_directory, tiny_gpt2_directory
):
    directory = {"llama": tiny_llama_directory, "gpt2": tiny_gpt2_directory}[model]
    fields = {"model": str(directory), "backend": backend, "share_inputs": share_inputs}
    kept, again = (two_steps(make_spec, tmp_path, recompute=r, **fields) for r in (False, True))
    assert kept[0] == again[0]
    assert all(torch.equal(kept[1][name], values) for name, values in again[1].items())
    assert kept[2] == again[2], "a remote answer was asked for twice, or not at all"


def bytes_kept_for_backward(run):
    """Of tensors that autograd saves in a forward pass, those that the model's parameters are not."""
    parameters = {p.data_ptr() for p in run.model.parameters()}
    sizes = {}

    def pack(tensor):
        if tensor.data_ptr() not in parameters:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = {key: torch.from_numpy(values) for key, values in run.batches.batch(0).items()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run.model.train()(**batch).loss
    del loss
    return sum(sizes.values())


def test_a_block_keeps_its_input_alone_for_backward(make_spec, tmp_path):
    spec = {"data": "random_tokens", "eval_examples": 0}
    kept, again = (
        [bytes_kept_for_backward(prepare(make_spec(recompute=r, blocks=b, **spec), tmp_path)) for b in (1, 2)]
        for r in (False, True)
    )
    hidden = 2 * 64 * 32 * 4  # batch x length x width, float32
    assert again[1] - again[0] == hidden
    assert kept[1] - kept[0] > 10 * hidden


def test_evaluation_asks_anew(make_spec, tmp_path):
    run = prepare(make_spec(recompute=True, eval_examples=0), tmp_path)
    run.model.eval()
    tokens = torch.arange(3, 19).reshape(2, 8)
    with torch.no_grad():
        first, second = run.model(tokens).logits, run.model(tokens + 1).logits
    assert not torch.equal(first, second)
    assert run.session.tape is None
