"""The section `block` of a configuration: expanded into specs, and refused in one sentence."""

import copy
import json

import pytest

from private_lora.core.errors import UserError
from private_lora.models.shapes import architecture_of
from private_lora.results.fingerprints import fingerprint
from private_lora.specs.backends import BACKENDS, PLAINTEXT
from private_lora.specs.block import BlockSpec
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS
from private_lora.specs.stages import STAGES
from private_lora.study.config import DEFAULTS, load_study, merge, read_yaml, study_of

LAYERS = {"q": [8, 8], "k": [8, 4], "v": [8, 4], "o": [8, 8], "gate": [8, 12], "up": [8, 12], "down": [12, 8]}


@pytest.fixture
def config():
    """The default configuration with empty grids."""
    empty = copy.deepcopy(read_yaml(DEFAULTS))
    for section in STAGES:
        empty[section]["groups"] = []
    return empty


def block(config, **group):
    config["block"]["groups"] = [{"tokens": [16], "backends": ["plaintext_int8", "packed"]} | group]
    return config


def spec(**fields) -> BlockSpec:
    values = {"run_id": "b", "model": "m", "blocks": 2, "tokens": 4, "layers": LAYERS, "backends": [{"name": "integer"}]}
    return BlockSpec.from_dict(values | {"activation_bits": 8, "weight_bits": 8} | fields)


@pytest.mark.parametrize(
    ("files", "tokens", "slow"),
    [([], {2048}, {"k"}), ([DEFAULTS.parent / "studies/full.yaml"], {128, 512, 2048, 8192}, {"q", "k", "v", "o"})],
    ids=["default", "full"],
)
def test_the_shapes_and_batches_of_a_llama_block(files, tokens, slow):
    """slow: layers that are measured under GLWE."""
    blocks = [b for b in load_study(files).blocks.values() if b.model == "Llama-3.2-1B"]
    compared = [b for b in blocks if {x["name"] for x in b.backends} >= {"plaintext_float32", "plaintext_int8", "packed"}]
    assert {b.tokens for b in compared if not b.share_inputs} == tokens
    assert {b.tokens for b in compared if b.share_inputs} == {128, 2048}
    assert all("packed_approx" in {x["name"] for x in b.backends} and len(b.layers) == 7 for b in compared)
    (glwe,) = [b for b in blocks if b not in compared]
    assert [b["name"] for b in glwe.backends] == ["glwe"]
    assert set(glwe.layers) == slow
    assert all(b.blocks == 16 and b.layers["k"] == [2048, 512] and b.device == "cpu" for b in blocks)


def test_default_study_measures_the_small_model_whose_whole_steps_it_measures():
    study = study_of(read_yaml(DEFAULTS))
    (mini,) = [b for b in study.blocks.values() if b.model == "mini-llama"]
    steps = [run for run in study.runs.values() if run.stage == "full_size" and run.model == mini.model]
    assert {run.batch_size * run.sequence_length for run in steps} == {mini.tokens}
    assert {run.share_inputs for run in steps} == {mini.share_inputs}
    assert [b["name"] for b in mini.backends] == ["plaintext_float32", "plaintext_bf16", "plaintext_int8", "packed"]


def test_gpu_study_measures_every_product_on_the_gpu_and_nothing_else():
    study = load_study([DEFAULTS.parent / "studies/gpu.yaml"])
    assert not study.runs and not study.layers
    assert {b.device for b in study.blocks.values()} == {"cuda"}
    glwe, whole = [b for b in study.blocks.values() if b.backends[0] == {"name": "glwe"}]
    # As published: 64 rows, 2048 x 2048 and 2048 x 512.
    assert (glwe.tokens, glwe.layers) == (64, {"q": [2048, 2048], "k": [2048, 512]})
    assert (whole.tokens, whole.activation_bits, len(whole.layers)) == (64, 7, 7)
    others = [b for b in study.blocks.values() if b not in (glwe, whole)]
    assert {(b.model, b.tokens) for b in others} == {
        *(("Llama-3.2-1B", tokens) for tokens in (64, 128, 512, 2048, 8192)),
        ("Llama-3.1-8B", 2048),
    }
    assert all(
        {x["name"] for x in b.backends} == {*PLAINTEXT, "packed", "packed_approx"} - {"plaintext_float32_onednn"}
        for b in others
    )
    assert all(b.layers == architecture_of(b.model).layers and b.repeats >= 3 and b.warmup for b in others)


def test_a_group_is_one_job_for_each_number_of_tokens(config):
    backends = ["packed", *({"name": "packed_approx", "variant": f"log2 Q {q}", "options": {"log2_q": q}} for q in (22, 24))]
    found = study_of(block(config, tokens=[16, 32], backends=backends, bits={"activations": 8, "weights": 6})).blocks
    assert list(found) == [f"block_Llama-3.2-1B_packed-packed-approx_{t}-tokens_a8w6bit" for t in (16, 32)]
    first = found["block_Llama-3.2-1B_packed-packed-approx_16-tokens_a8w6bit"]
    assert [b.get("options", {}) for b in first.backends] == [{}, {"log2_q": 22}, {"log2_q": 24}]
    assert BlockSpec.from_json(first.to_json()) == first


def test_a_group_overrides_what_the_section_says(config):
    (found,) = study_of(block(config, layers=["o", "k"], repeats=7, warmup=0, share_inputs=True)).blocks.values()
    assert (set(found.layers), found.repeats, found.warmup, found.share_inputs) == ({"o", "k"}, 7, 0, True)
    assert (found.seed, found.model) == (config["block"]["seed"], config["block"]["model"])


@pytest.mark.parametrize("model", [*ARCHITECTURES, *BUILT_IN_MODELS])
def test_shapes_are_those_of_the_groups_model(config, model):
    (found,) = study_of(block(config, model=model)).blocks.values()
    architecture = architecture_of(model)
    assert (found.model, found.blocks, found.layers) == (model, architecture.blocks, architecture.layers)
    assert found.run_id.startswith(f"block_{model}_")
    assert json.loads(found.to_json())["layers"] == architecture.layers


def test_shapes_of_a_directory_are_in_the_spec_that_is_hashed(config, tmp_path):
    digests = []
    for inner in (48, 56):
        text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": inner, "num_attention_heads": 4}
        text |= {"num_hidden_layers": 3, "vocab_size": 64}
        (tmp_path / "config.json").write_text(json.dumps(text))
        (found,) = study_of(block(config, model=str(tmp_path), layers=["down"])).blocks.values()
        assert (found.blocks, found.layers) == (3, {"down": [inner, 32]})
        digests.append(found.digest())
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"backends": ["pakced"]}, ["block.groups[0]", "'pakced'", "plaintext_float32", "packed_approx"]),
        ({"backends": ["concrete_ml"]}, ["block.groups[0]", "'concrete_ml'"]),
        ({"backends": ["packed", {"name": "packed", "options": {"security": "chaloy21_quantum"}}]}, ["'packed'", "twice"]),
        ({"backends": ["packed"], "device": "tpu"}, ["block.groups[0]", "'tpu'", "cpu, cuda"]),
        ({"tokens": [0]}, ["block.groups[0].tokens[0]", "at least 1"]),
        ({"tokens": []}, ["block.groups[0].tokens", "empty"]),
        ({"tokens": 16}, ["block.groups[0].tokens", "a list"]),
        ({"layers": ["q", "w"]}, ["block.groups[0]", "'w'", "Llama-3.2-1B", "q, k, v"]),
        ({"model": "GPT-2", "layers": ["q"]}, ["block.groups[0]", "'q'", "GPT-2", "attn_proj"]),
        ({"model": "Lama"}, ["block.groups[0]", "'Lama'", "Llama-3.2-1B", "mini-llama"]),
        ({"model": "./models/none"}, ["block.groups[0]", "'./models/none'", "config.json"]),
        ({"model": ""}, ["block.groups[0].model", "empty"]),
        ({"bits": 16}, ["block.groups[0]", "plaintext_int8", "8 bits"]),
        ({"bits": 10, "backends": ["plaintext_bf16"]}, ["block.groups[0]", "plaintext_bf16", "9 bits"]),
        ({"backends": ["plaintext_int8"], "device": "gpu"}, ["block.groups[0]", "'gpu'", "cpu, cuda"]),
        ({"backends": ["integer"], "device": "cuda"}, ["block.groups[0]", "integer", "'cuda'", "cpu"]),
        ({"repeats": 0}, ["block.groups[0].repeats", "at least 1"]),
    ],
)
def test_bad_groups_are_named_by_their_path(config, group, expected):
    with pytest.raises(UserError) as error:
        study_of(block(config, **group))
    for part in expected:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_type": "t5"}', '{"model_type": "llama", "hidden_size": "wide"}'])
def test_a_model_that_cannot_be_read_is_refused_in_one_sentence(config, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"^config: block\.groups\[0\]: ") as error:
        study_of(block(config, model=str(tmp_path)))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_groups_that_would_share_a_name_need_a_variant(config):
    block(config)["block"]["groups"] *= 2
    with pytest.raises(UserError, match=r"block\.groups\[1\].*block_Llama-3\.2-1B_packed_16-tokens_8bit"):
        study_of(config)
    config["block"]["groups"] = [config["block"]["groups"][0], config["block"]["groups"][0] | {"variant": "again"}]
    names = ("Llama-3.2-1B_packed", "Llama-3.2-1B_again_packed")
    assert set(study_of(config).blocks) == {f"block_{name}_16-tokens_8bit" for name in names}
    config["block"]["groups"][1] = config["block"]["groups"][0] | {"model": "nano"}
    assert set(study_of(config).blocks) == {f"block_{name}_packed_16-tokens_8bit" for name in ("Llama-3.2-1B", "nano")}


def test_shapes_are_read_from_models_and_not_typed_in(config):
    with pytest.raises(UserError, match=r"block: unknown key 'layers'"):
        study_of(merge(block(config), {"block": {"layers": {"q": [8, 8]}}}))


@pytest.mark.parametrize("shape", [[8], [8, 8, 8], [8, 0], ["8", 8]])
def test_layers_are_inputs_and_outputs(shape):
    with pytest.raises(UserError, match=r"layer '?q"):
        spec(layers={"q": shape})


def test_every_layer_and_direction_belongs_to_one_shape():
    products = spec().products()
    assert products[8, 8] == [("q", "forward"), ("q", "backward"), ("o", "forward"), ("o", "backward")]
    assert products[8, 4] == [("k", "forward"), ("v", "forward")]
    assert products[12, 8] == [("gate", "backward"), ("up", "backward"), ("down", "forward")]
    assert sum(len(uses) for uses in products.values()) == 14


def test_joint_layers_are_one_product_in_both_directions():
    products = spec(share_inputs=True).products()
    assert products[8, 16] == [("q+k+v", "forward")]
    assert products[24, 8] == [("gate+up", "backward")]
    assert sum(len(uses) for uses in products.values()) == 8
    with pytest.raises(UserError, match="q, k, v cannot share an input"):
        spec(share_inputs=True, layers=LAYERS | {"k": [6, 4]})


def test_a_spec_read_back_from_json_measures_the_same_products():
    joint = spec(share_inputs=True)
    assert BlockSpec.from_json(joint.to_json()).products() == joint.products()


def test_fingerprint_covers_every_backend_of_the_job():
    prints = [fingerprint(spec(backends=[{"name": n} for n in names])) for names in (["integer"], ["integer", "packed"])]
    assert prints[0] != prints[1]
    assert prints[1].endswith(" ".join(BACKENDS[name].basis for name in ("integer", "packed")))
