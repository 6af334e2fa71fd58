"""Shapes and sizes read from a config.json, against the models' published counts of weights."""

import json

import pytest

from private_lora.core.errors import UserError
from private_lora.models.shapes import architecture_of
from private_lora.specs.models import ARCHITECTURES

# Published by the models' authors, or counted by transformers over the same configuration.
WEIGHTS = {
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.1-70B": 70_553_706_496,
    "GPT-2": 124_439_808,
    "Qwen2.5-1.5B": 1_543_714_304,
    "SmolLM2-135M": 134_515_008,
    "mini-llama": 2_755_008,
}


def test_every_built_in_architecture_is_checked():
    assert set(ARCHITECTURES) <= set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_counted(name):
    assert architecture_of(name).weights == WEIGHTS[name]


def test_remote_part_and_adapter_of_the_papers_model():
    model = architecture_of("Llama-3.2-1B")
    assert round(model.remote_weights / 1e6, 1) == 973.1
    assert model.adapter_weights(rank=8) == 5_636_096
    assert model.layers["k"] == [2048, 512]


def test_directory(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_positions": 4, "vocab_size": 9})
    )
    assert architecture_of(str(tmp_path)).layers["attn"] == [8, 24]


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "bert"}', '{"model_type": "llama"}'])
def test_unreadable_configuration_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError):
        architecture_of(str(tmp_path))


@pytest.mark.parametrize("name", ["", "Llama-3.2-2B", "no/such/directory"])
def test_unknown_name_is_refused(name):
    with pytest.raises(UserError, match=r"known are Llama-3.2-1B"):
        architecture_of(name)
