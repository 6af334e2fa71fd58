"""Layers with the same input: one product, the same numbers as apart, and never an answer to another input."""

import numpy as np
import pytest
import torch
from slow_tests import slow_but
from split_layers import MATMUL, PAIRS, random_input, random_rows, session_of

from private_lora.core.errors import UserError
from private_lora.split.linear import LayerGroup
from private_lora.split.quantizers import quantize_activations, quantize_weight
from private_lora.training.preparation import prepare

WIDTHS = (16, 8, 5)


def group_and_separate(session, inputs=24):
    """A group of three layers, and the same layers apart; weights of different size, one column of them constant."""
    weights = [(i + 1) * random_rows(i, inputs, width) for i, width in enumerate(WIDTHS)]
    weights[1][:, 2] = 0.5
    group = LayerGroup(session, weights, "layers")
    separate = [LayerGroup(session, [weight], f"layer {i}") for i, weight in enumerate(weights)]
    for product in session.products:
        product.calibrated_range = (-3.0, 3.0)
    return group, separate, weights


@pytest.mark.parametrize("pair", PAIRS)
def test_outputs_of_a_group_are_those_of_separate_layers_to_the_last_bit(pair):
    session = session_of("integer", pair)
    group, separate, _ = group_and_separate(session)
    x = random_input(7)
    for member, layer in enumerate(separate):
        y = group.output(member, x)
        assert y.shape == (2, 3, WIDTHS[member])
        assert torch.equal(y, layer.output(0, x))
    assert session.products[0].server.counters.products == 1


@pytest.mark.parametrize("pair", PAIRS)
def test_gradients_of_a_group_are_one_integer_product(pair):
    session = session_of("integer", pair)
    group, _, weights = group_and_separate(session)
    x = random_input(7, requires_grad=True)
    gradients = [torch.from_numpy(0.1**i * random_rows(10 + i, 6, width)).reshape(2, 3, -1) for i, width in enumerate(WIDTHS)]
    torch.autograd.backward([group.output(i, x) for i in range(3)], gradients)
    rows = quantize_activations(np.concatenate(gradients, axis=2).reshape(6, -1), 8, pair[0], calibrated_range=(-3.0, 3.0))
    weight = quantize_weight(np.concatenate(weights, axis=1).T, 8, pair[1])
    exact = (rows.values.astype(np.int64) - rows.zero_point) @ (weight.values.astype(np.int64) - weight.zero_point)
    expected = exact.astype(np.float32) * (rows.scale * weight.scale)
    np.testing.assert_array_equal(x.grad.reshape(6, -1).numpy(), expected)
    assert session.products[1].server.counters.products == 1


@pytest.mark.parametrize("name", slow_but([n for n in MATMUL if n != "glwe"], MATMUL))
def test_a_group_is_close_to_the_float_layers_in_every_backend(name):
    session = session_of(name)
    group, _, weights = group_and_separate(session, inputs=64)
    x = random_input(7, inputs=64, requires_grad=True)
    plain = x.detach().clone().requires_grad_()
    outputs, expected = [], []
    for member, weight in enumerate(weights):
        outputs.append(group.output(member, x))
        expected.append(plain @ torch.from_numpy(weight))
    sum(y.square().sum() for y in outputs).backward()
    sum(y.square().sum() for y in expected).backward()
    for y, reference in zip([*outputs, x.grad], [*expected, plain.grad], strict=True):
        assert torch.linalg.norm(y - reference) < 0.05 * torch.linalg.norm(reference)
        assert (y[0, 1] == 0).all()


def test_outputs_without_a_gradient_count_as_zeros_and_a_row_is_zero_if_all_its_parts_are():
    session = session_of("integer")
    group, _, weights = group_and_separate(session)
    x = random_input(7, requires_grad=True)
    y = [group.output(i, x) for i in range(3)][1]
    gradient = torch.from_numpy(random_rows(11, 6, WIDTHS[1])).reshape(y.shape)
    gradient[1, 2] = 0
    y.backward(gradient)
    expected = gradient @ torch.from_numpy(weights[1]).T
    assert torch.linalg.norm(x.grad - expected) < 0.02 * torch.linalg.norm(expected)
    assert (x.grad[1, 2] == 0).all()
    assert (session.timings.backward_rows, session.timings.zero_backward_rows) == (6, 1)
    assert session.timings.remote_rows == 12


@pytest.mark.parametrize(
    ("asked", "products"),
    [
        ([(0, 0), (1, 0), (2, 0)], 1),
        ([(2, 0), (0, 0), (1, 0), (2, 1), (1, 1), (0, 1)], 2),  # any order
        ([(0, 0), (1, 1), (2, 1)], 2),  # another tensor, as for keys and values of an encoder
        ([(0, 0), (0, 0), (1, 0), (2, 0)], 2),  # interrupted and begun again
        ([(0, 0), (1, 1), (1, 0), (0, 1)], 4),
    ],
)
def test_a_member_gets_the_product_of_the_input_it_asks_for(asked, products):
    session = session_of("integer")
    group, separate, _ = group_and_separate(session)
    inputs = [random_input(7), random_input(8)]
    for member, i in asked:
        assert torch.equal(group.output(member, inputs[i]), separate[member].output(0, inputs[i]))
    assert session.products[0].server.counters.products == products


def test_outputs_are_stale_once_the_input_or_the_need_for_a_gradient_changed():
    group, separate, _ = group_and_separate(session_of("integer"))
    x = random_input(7)
    group.output(0, x)
    x.add_(1)
    assert torch.equal(group.output(1, x), separate[1].output(0, x))
    with torch.no_grad():
        group.output(0, x.requires_grad_())
    group.output(1, x).sum().backward()
    assert x.grad.any()
    with torch.inference_mode():
        x = random_input(8)
        assert torch.equal(group.output(2, x), separate[2].output(0, x))


def test_an_interrupted_computation_leaves_the_next_one_right():
    group, separate, _ = group_and_separate(session_of("integer"))
    group.output(0, random_input(7))
    with pytest.raises(FloatingPointError):
        group.output(1, torch.full((1, 24), torch.nan))
    x = random_input(8)
    for member in (1, 2, 0):
        assert torch.equal(group.output(member, x), separate[member].output(0, x))


def test_calibration_of_a_group_sees_its_input_and_its_joint_gradient():
    session = session_of("integer", PAIRS[2])
    group, _, weights = group_and_separate(session)
    forward, backward = session.products[:2]
    forward.calibrated_range = backward.calibrated_range = None
    session.calibrating = True
    x = random_input(7, requires_grad=True)
    outputs = [group.output(i, x) for i in range(3)]
    sum((i - 1) * y.square().sum() for i, y in enumerate(outputs)).backward()
    np.testing.assert_allclose(outputs[1].detach(), x.detach() @ torch.from_numpy(weights[1]), rtol=1e-5, atol=1e-5)
    gradients = torch.cat([2 * (i - 1) * y.detach() for i, y in enumerate(outputs)], dim=-1)
    assert forward.calibrated_range == (x.min().item(), x.max().item())
    assert backward.calibrated_range == pytest.approx((float(gradients.min()), float(gradients.max())))


def test_a_joint_backward_product_that_could_overflow_says_what_to_do(make_spec, tmp_path):
    bits = {"activation_bits": 12, "weight_bits": 11}
    prepare(make_spec(backend="glwe_simulated", share_inputs=False, **bits), tmp_path)
    with pytest.raises(UserError, match=r"gate_proj\+up_proj backward: .*share_inputs: false"):
        prepare(make_spec(backend="glwe_simulated", **bits), tmp_path)
