"""The loss in chunks of rows: the model's own loss and gradients, without ever having all logits."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from private_lora.training import head
from private_lora.training.evaluation import evaluate_losses, to_tensors
from private_lora.training.loop import seed_dropout, train_step
from private_lora.training.preparation import prepare

ROWS = 7


class LargestTensor(TorchDispatchMode):
    """Number of values of the largest floating-point tensor that an operation gave."""

    values = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.values = max(self.values, result.numel())
        return result


@pytest.fixture
def chunked(monkeypatch):
    """Makes the loss of any batch one in chunks."""

    def switch():
        monkeypatch.setattr(head, "MOST_AT_ONCE", 0)
        monkeypatch.setattr(head, "CHUNK_ROWS", ROWS)

    return switch


@pytest.fixture(params=["llama", "gpt2"])
def run(request, make_spec, tmp_path):
    directory = request.getfixturevalue(f"tiny_{request.param}_directory")
    return prepare(make_spec(backend="integer", model=str(directory)), tmp_path)


def loss_and_gradients(run):
    seed_dropout(run.spec, 0)
    loss = head.mean_loss(run.model.train(), to_tensors(run.batches.batch(0)))
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    return loss.item(), torch.autograd.grad(loss, parameters)


def test_loss_and_gradients_are_the_models_own(run, chunked):
    loss, gradients = loss_and_gradients(run)
    seed_dropout(run.spec, 0)
    assert loss == run.model(**to_tensors(run.batches.batch(0))).loss.item()
    chunked()
    found, others = loss_and_gradients(run)
    assert found == pytest.approx(loss, rel=1e-6)
    for gradient, other in zip(gradients, others, strict=True):
        # They differ by the roundings of quantized gradients, whose inputs differ in their last digits.
        assert (gradient - other).norm() <= 0.02 * gradient.norm()


def test_a_held_out_loss_is_the_same(run, chunked):
    whole = evaluate_losses(run.model, run.eval_encoded, 3, count_padding=False)
    chunked()
    parts = evaluate_losses(run.model, run.eval_encoded, 3, count_padding=False)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-6)


@pytest.mark.parametrize("recompute", [False, True])
def test_activations_recomputed_in_backward_change_nothing(recompute, make_spec, tmp_path, chunked):
    chunked()
    runs = [prepare(make_spec(backend="integer", recompute=flag), tmp_path / str(flag)) for flag in (False, recompute)]
    for each in runs:
        each.model.train()
        train_step(each)
        train_step(each)
    assert runs[0].losses == runs[1].losses


def test_no_tensor_has_the_size_of_all_logits():
    rows, width, vocabulary = 300, 16, 512
    hidden = torch.randn(rows, width, requires_grad=True)
    weight, labels = torch.randn(vocabulary, width), torch.randint(vocabulary, (rows,))
    with LargestTensor() as seen:
        head.ChunkedLoss.apply(hidden, weight, labels).backward()
    assert seen.values == head.CHUNK_ROWS * vocabulary
    expected = hidden.detach().clone().requires_grad_()
    torch.nn.functional.cross_entropy(expected @ weight.T, labels).backward()
    torch.testing.assert_close(hidden.grad, expected.grad, rtol=1e-5, atol=1e-8)


def test_gradients_are_those_of_finite_differences(monkeypatch):
    monkeypatch.setattr(head, "CHUNK_ROWS", ROWS)
    hidden = torch.randn(17, 5, dtype=torch.float64, requires_grad=True)
    weight, labels = torch.randn(11, 5, dtype=torch.float64), torch.randint(11, (17,))
    assert torch.autograd.gradcheck(lambda x: head.ChunkedLoss.apply(x, weight, labels), (hidden,))
