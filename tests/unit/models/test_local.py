"""What is known of a model without a download."""

import shutil

import pytest

from private_lora.core.errors import UserError
from private_lora.models.local import local_model
from private_lora.models.shapes import architecture_of


def test_built_in_names_and_architectures():
    for name, has_weights in (("nano", True), ("Llama-3.2-1B", False)):
        with local_model(name) as model:
            assert (model.architecture, model.has_weights) == (architecture_of(name), has_weights)


def test_a_directory_with_a_configuration_alone(tiny_llama_directory, tmp_path):
    shutil.copy(tiny_llama_directory / "config.json", tmp_path)
    for directory, has_weights in ((tmp_path, False), (tiny_llama_directory, True)):
        with local_model(str(directory)) as model:
            assert (model.has_weights, model.architecture.blocks, model.architecture.name) == (has_weights, 2, str(directory))


def test_a_hub_id_that_was_downloaded_before(tiny_llama_directory, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^config.json of owner/name is not in the local cache, and an estimate downloads nothing"
    ):
        local_model("owner/name").__enter__()
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("abc")
    shutil.copy(tiny_llama_directory / "config.json", snapshot)
    with local_model("owner/name") as model:
        assert (model.has_weights, model.architecture.name) == (False, "owner/name")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llama-9b", "unknown model 'llama-9b'.*for a cost, the name of an architecture is enough: Llama-3.2-1B"),
        ("./nowhere", "there is no directory nowhere.*"),
        ("./nowhere.gguf", "there is no file nowhere.gguf"),
    ],
)
def test_what_is_unknown_is_one_sentence(name, said):
    with pytest.raises(UserError, match=said) as error:
        local_model(name).__enter__()
    assert "\n" not in str(error.value)


def test_of_a_gguf_file_the_header_is_enough(tmp_path, monkeypatch):
    from private_lora.models.lookup import gguf_path

    monkeypatch.setenv("PRIVATE_LORA_CACHE", str(tmp_path))  # where nothing is converted
    with local_model(str(gguf_path("smollm2"))) as model:
        found, known = model.architecture, architecture_of("SmolLM2-135M")
        assert (found.layers, found.blocks, found.hidden, found.vocabulary) == (
            known.layers,
            known.blocks,
            known.hidden,
            known.vocabulary,
        )
        assert not model.has_weights
    assert not list(tmp_path.iterdir())
