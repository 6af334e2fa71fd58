"""A model with split layers: plain peft in float32, and what is and is not sent, kept or computed twice."""

import weakref

import pytest
import torch
from split_layers import MATMUL

from private_lora.models.load import load_base
from private_lora.models.stream import load_frame
from private_lora.specs.backends import BACKENDS
from private_lora.split.linear import SplitLinear
from private_lora.training.adapter import add_adapter
from private_lora.training.loop import train, train_step
from private_lora.training.preparation import make_session, prepare


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
    train(run)
    calls = {p.name.split("layers.")[1]: p.server.counters.products for p in run.session.products}
    assert len(calls) == 2 * calls_per_pass
    unused = {name for name, count in calls.items() if count == 0}
    assert unused == {f"0.self_attn.{name} backward" for name in first}
    assert run.session.counters.products == 2 * calls_per_pass - len(first)
    rows_per_call = run.spec.batch_size * run.spec.sequence_length
    assert run.session.timings.remote_rows == rows_per_call * run.session.counters.products
    assert run.session.timings.backward_rows == rows_per_call * (calls_per_pass - len(first))


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
