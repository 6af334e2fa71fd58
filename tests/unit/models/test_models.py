"""Base models load from every kind of place, the outlier variant is the same function, errors are one line."""

import json
import shutil

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from private_lora.core.errors import UserError
from private_lora.core.paths import RESOURCES
from private_lora.models import load as models
from private_lora.models import lookup, outliers

PROBLEM = "Mia has 12 apples and buys 7 more. How many apples does she have?"


@pytest.fixture(scope="module")
def nano():
    return models.load_base("nano")


@pytest.fixture(scope="module")
def mini():
    return models.load_base("mini-llama")


@pytest.fixture(scope="module")
def outlier_variant():
    return models.load_base("mini-llama-outlier")


@pytest.fixture(scope="module")
def gpt2_directory(tmp_path_factory, nano):
    """A local Hugging Face directory with a GPT-2 of two layers and nano's tokenizer."""
    directory = tmp_path_factory.mktemp("gpt2")
    _, tokenizer = nano
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tokens(tokenizer, text=PROBLEM):
    return torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids).logits


def down_proj_inputs(model, ids):
    """The input of every layer's down_proj: layers x tokens x units."""
    seen = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    logits(model, ids)
    return torch.stack(seen)


def error_of(*arguments, **options):
    with pytest.raises(UserError) as caught:
        models.load_base(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_tokenizer_gives_back_any_text(nano):
    _, tokenizer = nano
    text = PROBLEM + '\n\n\tdef f(x):  # "é€漢字"\n        return {x: 3.14}\n'
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert ids == tokenizer.encode(text)  # no special token comes by itself


def test_the_tokenizer_splits_digits_and_knows_everyday_words(nano):
    _, tokenizer = nano
    pieces = tokenizer.tokenize("123 456")
    assert [piece for piece in pieces if piece.isdigit()] == list("123456")
    assert len(tokenizer.tokenize(PROBLEM)) / len(PROBLEM.split()) <= 1.6
    assert {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token} == {"<bos>", "<eos>", "<pad>"}


@pytest.mark.parametrize(("name", "least", "most"), [("mini-llama", 2e6, 4e6), ("nano", 1e5, 5e5)])
def test_built_in_models_are_small_llamas(name, least, most, request):
    model, tokenizer = request.getfixturevalue("mini" if name == "mini-llama" else name)
    summary = models.architecture(model)
    assert summary["type"] == "llama"
    assert least < summary["weights"] < most
    assert summary["vocabulary"] == len(tokenizer) == 2048
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.training
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("name", ["mini-llama", "nano"])
def test_the_card_reports_the_model_in_the_directory(name):
    directory = RESOURCES / name
    metrics = json.loads((directory / "metrics.json").read_text())
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 10_000_000
    assert f"{metrics['held_out']['code']['model']:.3f}" in (directory / "README.md").read_text()
    for row in metrics["held_out"].values():
        assert row["model"] < row["unigram"]


def test_both_built_in_models_share_one_tokenizer():
    first, second = ((RESOURCES / name / "tokenizer.json").read_bytes() for name in ("mini-llama", "nano"))
    assert first == second


def test_random_weights_have_the_same_architecture_and_follow_the_seed(nano):
    pretrained, _ = nano
    state = torch.get_rng_state()
    first, again, other = (models.load_base("nano", weights="random", seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert models.architecture(first) == models.architecture(pretrained)
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (first, again, other, pretrained)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_the_outlier_variant_is_the_same_function(mini, outlier_variant):
    model, tokenizer = mini
    ids = tokens(tokenizer, PROBLEM + "\nShe has some.\n\ndef f(x):\n    return x\n")
    torch.testing.assert_close(logits(outlier_variant[0], ids), logits(model, ids), rtol=1e-5, atol=1e-4)


def test_the_outlier_variant_is_massive_at_the_first_token_only(mini, outlier_variant):
    ids = tokens(mini[1])
    sizes = down_proj_inputs(outlier_variant[0], ids).abs().amax(dim=-1)
    usual = sizes[:, 1:].median(dim=-1).values
    assert (sizes[1:, 0] > 100 * usual[1:]).all()
    # The other tokens stay what they were, but for the few that resemble a first token.
    before = down_proj_inputs(mini[0], ids).abs().amax(dim=-1)[:, 1:].median(dim=-1).values
    assert (usual < 1.5 * before).all()


def test_the_outlier_variant_has_no_outlying_weights(mini, outlier_variant):
    for plain, planted in zip(mini[0].model.layers, outlier_variant[0].model.layers, strict=True):
        for name in ("gate_proj", "up_proj"):
            old, new = (getattr(layer.mlp, name).weight for layer in (plain, planted))
            assert torch.equal(old, new[: len(old)])
            assert new.abs().max() <= 1.001 * outliers.SIZE * old.abs().max()
        old, new = plain.mlp.down_proj.weight, planted.mlp.down_proj.weight
        assert torch.equal(old, new[:, : old.shape[1]])
        assert not new[:, old.shape[1] :].any()


def test_the_hash_names_the_weights(tmp_path):
    original = models.model_hash("nano")
    assert original.startswith("sha256:")
    assert models.model_hash("mini-llama-outlier") == models.model_hash("mini-llama") + "+outliers"
    directory = shutil.copytree(RESOURCES / "nano", tmp_path / "copy")
    assert models.model_hash(str(directory)) == original
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    assert models.model_hash(str(directory)) != original


def test_a_local_gpt2_directory_loads(gpt2_directory):
    model, tokenizer = models.load_base(str(gpt2_directory))
    assert models.architecture(model)["type"] == "gpt2"
    assert logits(model, tokens(tokenizer)).isfinite().all()


def test_a_tokenizer_without_padding_pads_with_its_end(nano, gpt2_directory, tmp_path):
    directory = shutil.copytree(gpt2_directory, tmp_path / "model")
    config = json.loads((directory / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    _, tokenizer = models.load_base(str(directory))
    assert tokenizer.pad_token == tokenizer.eos_token == "<eos>"


@pytest.mark.parametrize("name", ["./no-such-model", "/no/such/model", "~/no-such-model"])
def test_a_missing_directory_is_one_sentence_without_network(name, monkeypatch):
    monkeypatch.setattr(models.huggingface_hub, "snapshot_download", None)
    assert "there is no directory" in error_of(name)


def test_a_directory_that_is_no_model_is_one_sentence(tmp_path):
    assert "no config.json" in error_of(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert "no tokenizer" in error_of(str(tmp_path))
    shutil.copy(RESOURCES / "nano" / "tokenizer.json", tmp_path)
    assert "config.json" in error_of(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert "causal language model" in error_of(str(tmp_path))


def test_missing_and_broken_weights_are_one_sentence(nano, tmp_path):
    directory = shutil.copytree(RESOURCES / "nano", tmp_path / "copy")
    (directory / "model.safetensors").write_bytes(b"not tensors")
    assert "cannot read the weights" in error_of(str(directory))
    (directory / "model.safetensors").unlink()
    assert "cannot read the weights" in error_of(str(directory))
    model, _ = nano
    short = LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "num_hidden_layers": 1}))
    config = (directory / "config.json").read_text()
    short.save_pretrained(directory)
    (directory / "config.json").write_text(config)
    assert "lack" in error_of(str(directory))


def test_an_unreachable_hub_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(models.huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(models.huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = error_of("somebody/some-model", revision="main")
    assert "somebody/some-model" in message
    assert "cannot be reached" in message


def hub_error(kind):
    """An error of the hub's client, made without an answer from the hub."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (models.hub_errors.GatedRepoError, "is gated"),
        (models.hub_errors.RepositoryNotFoundError, "does not exist"),
        (models.hub_errors.RevisionNotFoundError, "check the revision"),
        (models.hub_errors.LocalEntryNotFoundError, "cannot be reached"),
        (ConnectionError, "cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(kind, words, monkeypatch):
    def refuse(*arguments, **options):
        raise hub_error(kind)

    monkeypatch.setattr(models.huggingface_hub, "snapshot_download", refuse)
    assert words in error_of("somebody/some-model")


def test_a_name_that_is_nothing_is_one_sentence():
    assert "unknown model" in error_of("not a name at all")


def test_an_installation_without_resources_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(lookup, "RESOURCES", tmp_path)
    assert "run from a clone" in error_of("nano")
