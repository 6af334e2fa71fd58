"""Base models whose remote weights come one layer at a time."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from slow_tests import slow_but
from transformers import AutoModelForCausalLM

from private_lora.core.errors import UserError
from private_lora.models.load import load_base
from private_lora.models.stream import LoadedWeights, StoredWeights, load_frame, load_whole, remote_layers
from private_lora.training.loop import train_step
from private_lora.training.preparation import prepare

BUILT_IN = ["nano", "mini-llama-outlier"]


@pytest.fixture(params=slow_but(("llama", "gpt2"), ["llama", "gpt2", *BUILT_IN]))
def model_name(request, tiny_llama_directory, tiny_gpt2_directory):
    return {"llama": str(tiny_llama_directory), "gpt2": str(tiny_gpt2_directory)}.get(request.param, request.param)


def test_every_value_is_that_of_the_whole_model(model_name):
    whole = dict(load_base(model_name)[0].named_parameters())
    frame = load_frame(model_name, None, "pretrained", 0)
    remote = {f"{name}.weight" for name in remote_layers(frame.model)}
    assert remote < set(whole)
    for name, parameter in frame.model.named_parameters():
        assert parameter.shape == whole[name].shape
        values = frame.weight(name) if name in remote else parameter
        assert torch.equal(values, whole[name]), name
    head = frame.model.get_output_embeddings().weight
    assert torch.equal(head, load_base(model_name)[0].get_output_embeddings().weight)


def test_remote_weights_take_no_memory_and_spoil_what_they_touch(model_name):
    frame = load_frame(model_name, None, "pretrained", 0)
    for layer in remote_layers(frame.model).values():
        assert layer.weight.untyped_storage().nbytes() == 4
        assert layer.weight.isnan().all()
        assert not layer.weight.requires_grad


def test_a_whole_model_has_the_weights_that_others_split_off(model_name):
    whole = dict(load_whole(model_name, None, "pretrained", 0, blocks=1).model.named_parameters())
    expected = dict(load_base(model_name, blocks=1)[0].named_parameters())
    assert {name: p.shape for name, p in whole.items()} == {name: p.shape for name, p in expected.items()}
    assert all(torch.equal(parameter, expected[name]) for name, parameter in whole.items())


def test_a_whole_model_with_random_weights_has_those_of_the_split_one(tiny_gpt2_directory):
    whole = load_whole(str(tiny_gpt2_directory), None, "random", 5)
    frame = load_frame(str(tiny_gpt2_directory), None, "random", 5)
    for name, layer in remote_layers(whole.model).items():
        assert torch.equal(layer.weight, frame.weight(f"{name}.weight"))
        assert not layer.weight.requires_grad


def test_stored_weights_are_read_and_outliers_are_taken_from_the_whole(tiny_llama_directory):
    kinds = [type(load_frame(name, None, "pretrained", 0).weight) for name in (str(tiny_llama_directory), "mini-llama-outlier")]
    assert kinds == [StoredWeights, LoadedWeights]


def test_no_remote_weight_is_left_in_the_client_after_the_split(make_spec, tmp_path, tiny_llama_directory):
    run = prepare(make_spec(backend="packed"), tmp_path)
    whole = {name: p for name, p in load_base(str(tiny_llama_directory))[0].named_parameters() if p.dim() == 2}
    kept = [p for name, p in run.model.named_parameters() if not p.requires_grad and p.dim() == 2 and not p.isnan().any()]
    assert [p.shape for p in kept] == [whole["model.embed_tokens.weight"].shape]


def test_gpt2_files_without_the_prefix_are_read(tiny_gpt2_directory, tmp_path):
    """As on the hub: saved from the class without a head."""
    for path in tiny_gpt2_directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {name.removeprefix("transformer."): values for name, values in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    frame = load_frame(str(tmp_path), None, "pretrained", 0)
    assert isinstance(frame.weight, StoredWeights)
    name = "transformer.h.1.mlp.c_fc.weight"
    assert torch.equal(frame.weight(name), weights[name])


def test_sharded_files_are_read(tiny_llama_directory, tmp_path):
    model, tokenizer = load_base(str(tiny_llama_directory))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    frame = load_frame(str(tmp_path), None, "pretrained", 0)
    assert isinstance(frame.weight, StoredWeights)
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(frame.weight(name), dict(model.named_parameters())[name])


def test_broken_and_missing_weights_are_refused(tiny_llama_directory, tmp_path):
    model, tokenizer = load_base(str(tiny_llama_directory))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 tensors, first model\.layers\.0\.mlp\.up_proj\.weight"):
        load_frame(str(tmp_path), None, "pretrained", 0)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot read the weights"):
        load_frame(str(tmp_path), None, "pretrained", 0)


def test_random_weights_follow_seed_and_name():
    first, again, other = (load_frame("GPT-2", None, "random", seed, blocks=1) for seed in (3, 3, 4))
    name, second = "transformer.h.0.mlp.c_fc.weight", "transformer.h.0.mlp.c_proj.weight"
    assert torch.equal(first.weight(name), again.weight(name))
    assert not torch.equal(first.weight(name), other.weight(name))
    assert first.weight(second).shape == (3072, 768)
    assert float(first.weight(name).std()) == pytest.approx(0.02, rel=0.01)
    assert first.tokenizer is None
    assert first.model_blocks == 12
    assert len(first.model.transformer.h) == 1
    assert first.model.transformer.h[0].ln_1.weight.eq(1).all()
    assert first.model.lm_head.weight is first.model.transformer.wte.weight


@pytest.mark.parametrize("name", ["nano", "mini-llama-outlier"])
def test_first_blocks_of_a_pretrained_model(name):
    frame = load_frame(name, None, "pretrained", 0, blocks=1)
    assert len(frame.model.model.layers) == 1
    assert frame.model_blocks > 1


def test_a_step_on_random_tokens(make_spec, tmp_path):
    run = prepare(make_spec(data="random_tokens", eval_examples=0, blocks=1), tmp_path)
    run.model.train()
    train_step(run)
    assert run.session.counters.products == 4 + 3
    assert (run.batches.encoded["labels"] == run.batches.encoded["input_ids"]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "Llama-3.2-1B"}, "without weights and tokenizer"),
        ({"model": "Llama-3.2-1B", "weights": "random"}, "data: random_tokens"),
        ({"data": "random_tokens", "generate_examples": 2}, "generate_examples to 0"),
        ({"blocks": 0}, "blocks must be"),
        ({"backend": "concrete_ml", "recompute": True}, "trains by itself"),
    ],
)
def test_what_cannot_be_run_is_refused(fields, message, make_spec):
    with pytest.raises(UserError, match=message):
        make_spec(**fields)


def test_the_library_reads_what_has_other_names(tiny_llama_directory, tmp_path):
    """Weights stored as the class without a head names them are converted by transformers, as a whole."""
    AutoModelForCausalLM.from_pretrained(tiny_llama_directory).model.save_pretrained(tmp_path)
    load_base(str(tiny_llama_directory))[1].save_pretrained(tmp_path)
    config = (tiny_llama_directory / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    name = "model.layers.0.self_attn.q_proj.weight"
    values = [load_frame(str(path), None, "pretrained", 0).weight(name) for path in (tmp_path, tiny_llama_directory)]
    assert torch.equal(*values)
