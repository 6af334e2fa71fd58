"""What `make_private` refuses before it changes anything, what it leaves where it is, and how a session ends."""

import subprocess
import sys

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import private_lora
from private_lora import make_private
from private_lora.core.errors import UserError
from private_lora.split.linear import SplitLinear

TOKENS = torch.arange(3, 19).reshape(2, 8)


@pytest.fixture
def adapted(tiny_llama_directory):
    """A function that makes a peft model of a two-block Llama with an adapter that is not zero."""

    def make(directory=tiny_llama_directory, dtype=torch.float32, **settings):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
        config = LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": "all-linear", "init_lora_weights": False} | settings)
        return get_peft_model(base, config)

    return make


def step(model):
    """Loss and gradients by name."""
    model.zero_grad()
    loss = model(input_ids=TOKENS, labels=TOKENS).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close_to(model, expected):
    loss, gradients = step(model)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert gradients.keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-5)


def refused(model, *parts, **arguments):
    """The model is as it was, and the error one sentence."""
    before = {name: values.clone() for name, values in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        make_private(model, **arguments)
    text = str(error.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text
    assert not any(isinstance(m, SplitLinear) for m in model.modules())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], values) for name, values in before.items())


def test_the_package_imports_nothing_heavy_before_it_is_asked_to():
    code = "import sys, private_lora; assert 'make_private' in dir(private_lora)"
    code += "; print([m for m in ('torch', 'transformers', 'pydantic', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert private_lora.__version__


def test_layers_without_an_adapter_are_remote_too(adapted):
    model = adapted(target_modules=["q_proj", "v_proj"], layers_to_transform=[1])
    expected = step(model)
    with make_private(model, backend="float") as session:
        close_to(model, expected)
        report = session.report()
    assert report["layers"] == {"remote": 14, "local": 1, "local_names": ["lm_head"]}
    assert "model.layers.0.self_attn.q_proj+k_proj+v_proj forward" in report["products"]


def test_gpt2_with_biases_and_a_trained_layer(adapted, tiny_gpt2_directory):
    settings = {"target_modules": ["c_attn", "c_proj"], "modules_to_save": ["lm_head"], "fan_in_fan_out": True, "bias": "all"}
    model = adapted(tiny_gpt2_directory, **settings).eval()
    expected = step(model)
    assert any(name.endswith("bias") for name in expected[1])
    with make_private(model, backend="float") as session:
        close_to(model, expected)
    assert session.report()["layers"]["remote"] == 8


def test_several_adapters_take_turns(adapted):
    model = adapted()
    model.add_adapter("other", LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    expected = {}
    for name in ("other", "default"):
        model.set_adapter(name)
        expected[name] = step(model)
    with make_private(model, backend="float"):
        for name in ("other", "default"):
            model.set_adapter(name)
            close_to(model, expected[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_a_narrower_type(dtype, adapted):
    model = adapted(dtype=dtype)
    expected = step(model)[0]
    with make_private(model, backend="float"):
        assert step(model)[0] == pytest.approx(expected, rel=1e-2)


def test_autocast_and_gradient_checkpoints(adapted):
    model = adapted()
    with make_private(model, backend="integer"):
        expected = step(model)
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        loss, gradients = step(model)
        assert loss == expected[0]
        assert all(torch.equal(gradients[name], gradient) for name, gradient in expected[1].items())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert step(model)[0] == pytest.approx(expected[0], rel=1e-2)


def test_a_model_that_is_no_peft_model(tiny_llama_directory):
    refused(AutoModelForCausalLM.from_pretrained(tiny_llama_directory), "no peft model", "get_peft_model")


def test_adapters_that_are_no_lora(tiny_llama_directory):
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_directory)
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])
    refused(get_peft_model(base, config), "IA3")


def test_dora(adapted):
    refused(adapted(use_dora=True), "Dora", "plain LoRA")


def test_a_merged_adapter(adapted):
    model = adapted()
    model.merge_adapter()
    refused(model, "merged", "unmerge_adapter()")
    model.unmerge_adapter()
    make_private(model, backend="integer")


def test_a_type_that_float32_does_not_hold(adapted):
    refused(adapted(dtype=torch.float64), "float64", "float32")


def test_another_kind_of_linear_layer(adapted):
    class Linear4bit(torch.nn.Linear):
        pass

    model = adapted()
    model.get_base_model().model.layers[1].mlp.up_proj.base_layer.__class__ = Linear4bit
    refused(model, "model.layers.1.mlp.up_proj", "Linear4bit")


def test_a_layer_in_two_places(adapted):
    model = adapted(target_modules=["q_proj"])
    blocks = model.get_base_model().model.layers
    blocks[1].mlp.up_proj = blocks[0].mlp.up_proj
    refused(model, "model.layers.0.mlp.up_proj", "several places")


def test_a_weight_that_the_backend_refuses(adapted):
    refused(adapted(), "layer model.layers.0", backend="glwe", bits=13)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"backend": "nothing"}, ["nothing", "packed"]),
        ({"bits": 1}, ["bits"]),
        ({"backend": "concrete_ml"}, ["trains by itself"]),
        ({"backend_options": {"log2q": 1}}, ["log2q"]),
        ({"activation_quantizer": "static_per_tensor"}, ["static_per_tensor", "dynamic"]),
        ({"workers": "127.0.0.1:7001"}, ["list", "'127.0.0.1:7001'"]),
        ({"workers": ["127.0.0.1:7001"]}, ["tls_cert", "plaintext=True"]),
        ({"workers": ["127.0.0.1:7001"], "plaintext": True, "tls_key": "key.pem"}, ["exclude each other"]),
        ({"workers": ["10.0.0.1:7001"], "plaintext": True}, ["10.0.0.1:7001", "loopback"]),
        ({"workers": ["127.0.0.1"], "plaintext": True}, ["host:port"]),
        ({"workers": ["127.0.0.1:7001"], "backend": "packed_simulated"}, ["does not run at workers"]),
        ({"workers": ["127.0.0.1:7001"], "plaintext": True, "rows_per_question": 0}, ["rows_per_question"]),
    ],
)
def test_settings_that_do_not_fit(arguments, parts, adapted):
    refused(adapted(), *parts, **arguments)


def test_workers_that_hold_another_model(adapted, local_worker):
    from private_lora.specs.worker import WorkerSpec

    held = WorkerSpec(model="nano", backend="packed", activation_bits=8, weight_bits=8)
    with local_worker(held) as running:
        refused(adapted(), "model", "sha256", workers=[f"127.0.0.1:{running.port}"], plaintext=True)


def test_no_second_session_and_no_merging(adapted):
    model = adapted(target_modules=["q_proj"])
    make_private(model, backend="integer")
    with pytest.raises(UserError, match="made private before"):
        make_private(model, backend="integer")
    with pytest.raises(UserError, match="cannot be merged"):
        model.merge_and_unload()


def test_the_models_own_weights_are_gone_and_not_written(adapted):
    model = adapted()
    before = model.state_dict().keys()
    make_private(model, backend="integer")
    after = model.state_dict()
    assert {name for name in before - after.keys()} == {name for name in before if name.endswith("_proj.base_layer.weight")}
    assert all(values.isfinite().all() for values in after.values())


def test_a_session_that_encrypted_nothing_says_so(adapted):
    session = make_private(adapted())
    assert session.report()["is_encrypted"] is False
    assert "0 of them encrypted: NOT what packed promises" in session.summary()
    with pytest.raises(RuntimeError, match="no encrypted product"):
        session.close()
    session.close()


def test_an_error_of_the_script_is_not_hidden(adapted):
    with pytest.raises(ZeroDivisionError), make_private(adapted()):
        raise ZeroDivisionError


def test_a_closed_session_keeps_its_counts_and_no_keys(adapted):
    model = adapted()
    with make_private(model) as session:
        step(model)
    assert session.counters.products == session.counters.encrypted_products == 15
    assert session.report()["counters"]["encrypted_products"] == 15
    assert session._session.keys is None
    with pytest.raises(UserError, match="session of this model is closed"):
        step(model)


def test_hints_are_kept_where_the_script_says(adapted, tmp_path, monkeypatch):
    monkeypatch.delenv("PRIVATE_LORA_HINTS", raising=False)
    make_private(adapted(), hints=tmp_path)
    assert list(tmp_path.glob("*.hint"))
    assert "PRIVATE_LORA_HINTS" not in __import__("os").environ
