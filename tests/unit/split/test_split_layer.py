"""The split layer: gradients, zero rows, Conv1D, layers that share an input, and what is and is not sent."""

import time
import weakref

import numpy as np
import pytest
import torch

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.models.load import load_base
from private_lora.models.stream import load_frame
from private_lora.specs.backends import BACKENDS
from private_lora.specs.quantization import Quantization
from private_lora.split.linear import LayerGroup, SplitLinear
from private_lora.split.product import RemoteProduct
from private_lora.split.quantizers import quantize_activations, quantize_weight
from private_lora.split.session import Session
from private_lora.split.weights import product_weight
from private_lora.training.loop import add_adapter, make_session, prepare, train, train_step

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]
QUANTIZED = [name for name in MATMUL if BACKENDS[name].quantized]
PAIRS = [
    ("dynamic_per_token", "static_per_channel"),
    ("dynamic_per_tensor", "static_per_tensor"),
    ("static_per_tensor", "static_per_tensor"),
    ("symmetric_per_token", "symmetric_per_channel"),
]


def session_of(name, pair=PAIRS[0], bits=8, constant_rows="exact"):
    quantized = BACKENDS[name].quantized
    quantization = Quantization(*pair, bits if quantized else None, bits if quantized else None, constant_rows)
    return Session(load(name), quantization)


def remote_product(session, weight):
    return RemoteProduct(session, weight, product_weight(weight, "layer", session.quantization))


def random_rows(seed, rows, columns):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("name", MATMUL)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_zero_row_stays_zero_through_every_backend(name, pair):
    session = session_of(name, pair)
    product = remote_product(session, random_rows(0, 24, 5))
    product.calibrated_range = (-3.0, 3.0)
    x = random_rows(1, 3, 24)
    x[1] = 0
    y = product(x)
    assert (y[1] == 0).all()
    assert (y[0] != 0).any()


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_layer_is_close_to_the_float_one(name):
    weight, x = random_rows(0, 64, 12), random_rows(1, 3, 64)
    y = remote_product(session_of(name), weight)(x)
    expected = x @ weight
    noise = 40 * np.abs(x).max() / 127 * np.abs(weight).max() / 127
    assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max() + (0 if load_is_exact(name) else 3 * noise)


def load_is_exact(name):
    return load(name).plan(np.ones((4, 4), np.int64), activation_bits=8).exact


def test_sixteen_bits_differ_from_float_by_less_than_a_thousandth():
    weight, x = random_rows(0, 512, 192), random_rows(1, 256, 512)
    y = remote_product(session_of("integer", bits=16), weight)(x)
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    assert np.linalg.norm(y - exact) / np.linalg.norm(exact) < 1e-3


@pytest.mark.parametrize("share_inputs", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_float_split_is_plain_peft(architecture, share_inputs, make_spec, tiny_llama_directory, tiny_gpt2_directory):
    directory = {"llama": tiny_llama_directory, "gpt2": tiny_gpt2_directory}[architecture]
    spec = make_spec(model=str(directory), backend="float", share_inputs=share_inputs)
    tokens = torch.arange(3, 19).reshape(2, 8)
    losses, gradients = [], []
    for split in (False, True):
        frame = load_frame(spec.model, None, "pretrained", 0)
        model = add_adapter(frame.model if split else load_base(spec.model)[0], spec)
        if split:
            make_session(model, spec, frame.weight)
        model.eval()
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in MATMUL if not BACKENDS[n].encrypted])
@pytest.mark.parametrize(
    ("share_inputs", "calls_per_pass", "first"),
    [(True, 2 * 4, ["q_proj+k_proj+v_proj"]), (False, 2 * 7, ["q_proj", "k_proj", "v_proj"])],
)
def test_the_first_layers_need_no_backward_call(name, share_inputs, calls_per_pass, first, make_spec, tmp_path):
    run = prepare(make_spec(backend=name, steps=1, eval_examples=0, share_inputs=share_inputs), tmp_path)
    train(run, progress=False)
    calls = {p.name.split("layers.")[1]: p.server.counters.products for p in run.session.products}
    assert len(calls) == 2 * calls_per_pass
    unused = {name for name, count in calls.items() if count == 0}
    assert unused == {f"0.self_attn.{name} backward" for name in first}
    assert run.session.counters.products == 2 * calls_per_pass - len(first)
    rows_per_call = run.spec.batch_size * run.spec.sequence_length
    assert run.session.stages.remote_rows == rows_per_call * run.session.counters.products
    assert run.session.stages.backward_rows == rows_per_call * (calls_per_pass - len(first))


def test_the_head_and_the_embedding_stay_with_the_client(make_spec, tmp_path):
    run = prepare(make_spec(), tmp_path)
    assert not any("lm_head" in p.name or "embed" in p.name for p in run.session.products)


def test_static_ranges_come_from_a_pass_that_leaves_no_trace(make_spec, tmp_path):
    static = {"activation_quantizer": "static_per_tensor", "weight_quantizer": "static_per_tensor"}
    run = prepare(make_spec(**static), tmp_path)
    ranges = {p.name: p.calibrated_range for p in run.session.products}
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert ranges["model.layers.1.mlp.gate_proj+up_proj forward"][1] > 0.1
    assert all(p.grad is None or not p.grad.any() for p in run.model.parameters())
    assert run.session.counters.products == 0


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


def random_input(seed, inputs=24, requires_grad=False):
    x = torch.from_numpy(random_rows(seed, 6, inputs)).reshape(2, 3, inputs)
    x[0, 1] = 0
    return x.requires_grad_(requires_grad)


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


@pytest.mark.parametrize("name", MATMUL)
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
    assert (session.stages.backward_rows, session.stages.zero_backward_rows) == (6, 1)
    assert session.stages.remote_rows == 12


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


def split_adapted(make_spec, **fields):
    """A split model whose adapter is not zero, in training mode, without dropout."""
    spec = make_spec(lora_dropout=0.0, **fields)
    frame = load_frame(spec.model, None, "pretrained", 0)
    model = add_adapter(frame.model, spec)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.train(), make_session(model, spec, frame.weight)


def gradients_of(model):
    tokens = torch.arange(3, 19).reshape(2, 8)
    model(input_ids=tokens, labels=tokens).loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def test_a_model_whose_layers_share_inputs_answers_as_with_layers_apart(make_spec):
    tokens = torch.arange(3, 19).reshape(2, 8)
    shared, apart = (split_adapted(make_spec, share_inputs=share)[0] for share in (True, False))
    assert torch.equal(shared(tokens).logits, apart(tokens).logits)
    written = [m.eval().generate(tokens, max_new_tokens=5, do_sample=False, use_cache=True) for m in (shared, apart)]
    assert torch.equal(*written)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(use_reentrant, make_spec):
    plain, session = split_adapted(make_spec)
    expected = gradients_of(plain)
    checkpointed, again = split_adapted(make_spec)
    checkpointed.enable_input_require_grads()
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    gradients = gradients_of(checkpointed)
    assert again.counters.products >= session.counters.products + 8, "nothing was computed a second time"
    for name, gradient in expected.items():
        assert gradient.any()
        assert torch.equal(gradients[name], gradient), name


def test_no_input_outlives_a_step(make_spec, tmp_path):
    run = prepare(make_spec(), tmp_path)
    seen = []

    def remember(layer, inputs):
        seen.append(weakref.ref(inputs[0]))

    for module in run.model.modules():
        if isinstance(module, SplitLinear):
            module.register_forward_pre_hook(remember)
    train_step(run)
    assert len(seen) == 14
    assert not [reference for reference in seen if reference() is not None]


def test_gpt2_is_the_same_with_and_without_shared_inputs(make_spec, tiny_gpt2_directory):
    models = [split_adapted(make_spec, model=str(tiny_gpt2_directory), share_inputs=share) for share in (True, False)]
    names = [[p.name for p in session.products] for _, session in models]
    assert names[0] == names[1]
    assert len(names[0]) == 2 * 4 * 2
    first, second = (gradients_of(model.eval()) for model, _ in models)  # GPT-2 has dropout of its own
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_joint_backward_product_that_could_overflow_says_what_to_do(make_spec, tmp_path):
    bits = {"activation_bits": 12, "weight_bits": 11}
    prepare(make_spec(backend="glwe_simulated", share_inputs=False, **bits), tmp_path)
    with pytest.raises(UserError, match=r"gate_proj\+up_proj backward: .*share_inputs: false"):
        prepare(make_spec(backend="glwe_simulated", **bits), tmp_path)


def test_checking_approximate_answers_is_no_part_of_a_steps_time(make_spec, tmp_path, monkeypatch):
    run = prepare(make_spec(backend="glwe_simulated", eval_examples=0), tmp_path)
    slow = 0.05
    for product in run.session.products:
        truth = product._truth
        monkeypatch.setattr(product, "_truth", lambda x, truth=truth: (time.sleep(slow), truth(x))[1])
    start = time.perf_counter()
    train_step(run)
    waited = slow * run.session.counters.products
    (seconds,) = [row["value"] for row in run.recorder.rows if row["metric"] == "step_time_s"]
    assert seconds <= time.perf_counter() - start - waited
    assert run.session.stages.check_s >= waited
