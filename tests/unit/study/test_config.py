"""Configurations: merged, checked, expanded into specs."""

import copy
import json
import subprocess
import sys

import pytest

from private_lora.core.errors import UserError
from private_lora.models.lookup import local_directory
from private_lora.results.fingerprints import fingerprint, source_files
from private_lora.specs.backends import BACKENDS
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES
from private_lora.specs.run import RunSpec
from private_lora.specs.stages import STAGES
from private_lora.study.config import DEFAULTS, ROOT, load_study, merge, read_yaml, study_of
from private_lora.study.grid import input_files

FULL = ROOT / "config/studies/full.yaml"
PAIR = {"activations": "dynamic_per_token", "weights": "static_per_channel"}


@pytest.fixture(scope="module")
def defaults():
    return read_yaml(DEFAULTS)


@pytest.fixture
def config(defaults):
    """The default configuration with empty grids, to be filled by a test."""
    empty = copy.deepcopy(defaults)
    for section in STAGES:
        empty[section]["groups"] = []
    return empty


def sweep(config, **group):
    config["sweep"]["groups"] = [{"model": "nano", "backends": ["integer"], "bits": [8]} | group]
    return config


def refused(config) -> str:
    with pytest.raises(UserError) as error:
        study_of(config)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("files", "seeds", "widths"),
    [
        ([], {0}, {"mini-llama": {4, 8, 16}}),
        ([FULL], {0, 1}, {"mini-llama": {4, 6, 8, 12, 16}, "mini-llama-outlier": {8, 16}}),
    ],
    ids=["default", "full"],
)
def test_the_grid_of_the_default_study_in_short_and_in_full(files, seeds, widths):
    runs = load_study(files).runs.values()
    sweeps = [r for r in runs if r.stage == "sweep"]
    assert {r.model for r in sweeps} == set(widths)
    for model, bits in widths.items():
        of_model = [r for r in sweeps if r.model == model]
        assert {r.backend for r in of_model} == {"float", "integer"}
        assert {r.activation_bits for r in of_model if r.backend == "integer"} == bits
        assert len({(r.activation_quantizer, r.weight_quantizer) for r in of_model if r.backend == "integer"}) == 3
        assert {r.seed for r in of_model} == seeds
    encrypted = [r for r in runs if r.stage == "encrypted"]
    assert {r.backend for r in encrypted} == {"float", "integer", "glwe_simulated", "glwe", "concrete_ml"}


@pytest.mark.parametrize("files", [[], [ROOT / "config/studies/concrete_ml.yaml"]], ids=["default", "concrete_ml"])
def test_twins_differ_in_nothing_but_the_backend(files):
    encrypted = [r for r in load_study(files).runs.values() if r.stage == "encrypted"]
    backend_fields = {"run_id", "backend", "backend_options", "variant"}
    quantization = {"activation_bits", "weight_bits", "activation_quantizer", "weight_quantizer", "constant_rows"}
    shared = [{k: v for k, v in r.to_dict().items() if k not in backend_fields | quantization} for r in encrypted]
    assert all(s == shared[0] for s in shared)


def test_every_repository_configuration_is_valid_but_for_missing_records():
    for path in sorted((ROOT / "config").rglob("*.yaml")):
        if path.name != "recorded.yaml":
            study = load_study([path])
            assert study.runs or study.measurements


def test_differences_merge_by_key_and_replace_lists():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}, "b": 1}
    assert base["a"]["y"] == [1, 2]


def test_stage_and_group_override_training(config):
    sweep(config, training={"steps": 7})
    config["sweep"]["training"] = {"steps": 5, "batch_size": 3}
    (run, *_) = study_of(config).runs.values()
    assert (run.steps, run.batch_size) == (7, 3)
    assert run.learning_rate == config["training"]["learning_rate"]


def test_layers_share_inputs_unless_a_stage_or_group_says_otherwise(config):
    del config["sweep"]["training"]
    (run,) = study_of(sweep(config, seeds=[0], quantizers=[PAIR])).runs.values()
    assert run.share_inputs is True
    config["sweep"]["training"] = {"share_inputs": False}
    (run,) = study_of(config).runs.values()
    assert run.share_inputs is False
    config["sweep"]["groups"][0]["training"] = {"share_inputs": True}
    (run,) = study_of(config).runs.values()
    assert run.share_inputs is True


def test_a_trainer_has_layers_of_its_own_which_share_nothing(config):
    config["sweep"]["training"] = {"share_inputs": True}
    runs = study_of(sweep(config, backends=["integer", "concrete_ml"], seeds=[0], quantizers=[PAIR])).runs.values()
    assert {r.backend: r.share_inputs for r in runs} == {"integer": True, "concrete_ml": False}


@pytest.mark.parametrize("name", ["config", "smoke"])
def test_stages_beside_the_reference_implementation_keep_layers_apart(name):
    runs = load_study([ROOT / f"config/{name}.yaml"]).runs.values()
    stages = {stage: {r.share_inputs for r in runs if r.stage == stage} for stage in STAGES}
    assert all(stages[stage] == {False} for stage in ("sweep", "codebase", "inflation", "encrypted"))


@pytest.mark.parametrize("value", ["false", 0, None])
def test_share_inputs_is_true_or_false(value):
    values = {"run_id": "a", "model": "nano", "data": "math_problems", "backend": "float"}
    with pytest.raises(UserError, match="share_inputs must be true or false"):
        RunSpec.from_dict(values | {"share_inputs": value})


@pytest.mark.parametrize(("flags", "expected"), [([], True), (["--no-share-inputs"], False), (["--share-inputs"], True)])
def test_share_inputs_on_the_command_line(flags, expected, tmp_path, monkeypatch):
    from private_lora.cli import main as cli
    from private_lora.training import run as finetuning

    specs = []
    monkeypatch.setattr(finetuning, "finetune", lambda spec, *_, **__: specs.append(spec) or True)
    arguments = "finetune --model nano --data math_problems --backend float".split()
    assert cli.main([*arguments, *flags, "--out", str(tmp_path)]) == 0
    spec = specs[0].to_dict() | {"share_inputs": not expected}
    assert cli.main(["finetune", "--spec", json.dumps(spec), *flags, "--out", str(tmp_path)]) == 0
    assert [s.share_inputs for s in specs] == [expected, expected if flags else not expected]


def test_a_spec_survives_its_json(defaults):
    for run in study_of(defaults).runs.values():
        assert RunSpec.from_json(run.to_json()) == run
        assert json.loads(run.to_json())["run_id"] == run.run_id


def test_group_is_a_product_and_float_is_run_once(config):
    sweep(config, backends=["float", "glwe_simulated"], bits=[7, {"activations": 8, "weights": 6}])
    config["sweep"]["groups"][0]["constant_rows"] = ["exact", "reference"]
    config["seeds"] = [0, 1]
    runs = list(study_of(config).runs.values())
    assert sum(r.backend == "float" for r in runs) == 2
    assert sum(r.backend == "glwe_simulated" for r in runs) == 3 * 2 * 2 * 2
    assert {(r.activation_bits, r.weight_bits) for r in runs if r.activation_bits} == {(7, 7), (8, 6)}


def test_a_trainer_is_run_once_for_each_mode(config):
    modes = [{"name": "concrete_ml", "variant": m, "options": {"mode": m}} for m in ("disable", "execute")]
    runs = study_of(sweep(config, backends=modes, seeds=[0])).runs
    assert [r.backend_options["mode"] for r in runs.values()] == ["disable", "execute"]
    assert all("static" not in run_id for run_id in runs)


def test_groups_that_would_share_a_name_need_a_variant(config):
    sweep(config)
    config["sweep"]["groups"] *= 2
    assert "sweep_nano_integer_dynamic-token_static-channel_8bit_seed0" in refused(config)
    config["sweep"]["groups"] = [config["sweep"]["groups"][0], config["sweep"]["groups"][0] | {"variant": "again"}]
    assert any("again" in run_id for run_id in study_of(config).runs)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"training": {"stepz": 1}}, ["training", "'stepz'", "'steps'"]),
        ({"training": {"learning_rate": "2e-3"}}, ["training.learning_rate", "dot before its e"]),
        ({"training": {"steps": True}}, ["training.steps", "whole number"]),
        ({"sweep": {"training": {"share_inputs": 1}}}, ["sweep.training.share_inputs", "true or false"]),
        ({"training": {"learning_rate": float("nan")}}, ["learning_rate"]),
        ({"training": {"lr_schedule": "cosine"}}, ["training.lr_schedule", "linear, constant"]),
        ({"training": {"data": "gsm"}}, ["'gsm'", "math_problems"]),
        ({"training": {"data_options": {"path": "x"}}}, ["data_options", "'path'"]),
        ({"seeds": []}, ["seeds", "empty"]),
        ({"seeds": [1, 1]}, ["seeds", "twice"]),
        ({"sweep": None}, ["sweep", "a mapping, not empty"]),
        ({"publish": {"tables": ["clams"]}}, ["publish.tables[0]", "'clams'", "claims"]),
        ({"publish": {"figures": ["loss"]}}, ["publish.figures[0]", "loss_curves"]),
        ({"layer": {"bits": 1}}, ["layer.bits", "at least 2"]),
        ({"memory_mb": {"glew": 1}}, ["memory_mb", "'glew'", "'glwe'"]),
    ],
)
def test_bad_values_are_named_by_their_path(config, change, expected):
    text = refused(merge(sweep(config), change))
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"bits": ["eight"]}, ["sweep.groups[0].bits[0]", "whole number"]),
        ({"bits": [{"activations": 8}]}, ["sweep.groups[0].bits[0]", "'weights' is missing"]),
        ({"bits": [17]}, ["sweep.groups[0].bits[0]", "at most 16"]),
        ({"model": "mini-lama"}, ["'mini-lama'", "mini-llama-outlier"]),
        ({"model": "resources/none"}, ["resources/none"]),
        ({"model": "/none"}, ["/none"]),
        ({"device": "cuda"}, ["sweep.groups[0]", "'cuda'", "known are cpu"]),
        ({"quantizers": [PAIR | {"weights": "per_row"}]}, ["sweep.groups[0]", "'per_row'", "static_per_tensor"]),
        ({"backends": [{"name": "concrete_ml", "options": {"mode": "fast"}}]}, ["disable, execute"]),
    ],
)
def test_bad_groups_are_named_by_their_path(config, group, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = refused(sweep(config, **group))
    for part in expected:
        assert part in text


def test_a_quantizing_backend_needs_bits(config):
    sweep(config)
    del config["sweep"]["groups"][0]["bits"]
    assert "bits" in refused(config)


def test_a_trainer_has_no_layer_to_time(config):
    shapes = [{"rows": 1, "inputs": 4, "outputs": 4}]
    config["layer"]["groups"] = [{"backends": ["concrete_ml"], "shapes": shapes}]
    assert "layer.groups[0]" in refused(config)


def test_too_few_examples_in_a_local_file(config, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text('{"question": "a", "answer": "b"}\n{"question": "c", "answer": "d"}\n')
    config["training"] |= {"data": "jsonl", "data_options": {"path": str(path)}}
    assert "2000 were asked for" in refused(sweep(config))


def test_a_path_stands_for_the_data(config, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"question": "{i}", "answer": "b"}}\n' for i in range(40)))
    config["training"] |= {"data": str(path), "train_examples": 20, "eval_examples": 2, "generate_examples": 0}
    (run, *_) = study_of(sweep(config)).runs.values()
    assert (run.data, run.data_options) == ("jsonl", {"path": str(path)}) and str(path) in input_files(run)
    config["training"]["data"] = str(tmp_path / "none.jsonl")
    assert "none.jsonl: No such file or directory; check the path" in refused(config)
    config["training"]["data"] = f"{tmp_path}/none/"
    assert "none is not a directory; check the path" in refused(config)


def test_options_of_data_may_hold_lists(config):
    config["training"] |= {"data": "private_code", "data_options": {"packages": ["no_such"]}, "generate_examples": 0}
    assert "'no_such' is no installed package" in refused(sweep(config))


def test_broken_yaml_is_named_by_its_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("seeds: [1\ntraining: 3\n")
    with pytest.raises(UserError, match=r"broken\.yaml, line \d"):
        load_study([path])
    with pytest.raises(UserError, match="cannot read"):
        load_study([tmp_path / "none.yaml"])


def test_model_names():
    assert local_directory("mini-llama-outlier") == ROOT / "resources/mini-llama"
    assert local_directory("owner/name") is None


def test_a_run_depends_on_the_files_of_its_model_and_texts(config, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (run, *_) = study_of(sweep(config)).runs.values()
    assert "resources/nano/model.safetensors" in input_files(run)
    values = run.to_dict() | {"data": "jsonl", "data_options": {"path": str(tmp_path / "a.jsonl")}}
    assert str(tmp_path / "a.jsonl") in input_files(RunSpec.from_dict(values))


def test_fingerprint_tells_backends_apart_and_knows_their_code(config):
    sweep(config, backends=["float", "integer"])
    prints = {r.backend: fingerprint(r) for r in study_of(config).runs.values()}
    assert prints["float"] != prints["integer"]
    for entry in BACKENDS.values():
        module = entry.path.split(":")[0].removeprefix("private_lora.")
        names = {p.stem for p in source_files(frozenset({"training.run", module}))}
        assert {"loop", "quantizers", "linear", "stream", module.split(".")[-1]} <= names
        assert not {"losses", "claims", "config", "cli"} & names


def test_published_names_are_those_of_the_code():
    from private_lora.publish.figures import FIGURES
    from private_lora.publish.tables import TABLES

    assert set(PUBLISHED_TABLES) == set(TABLES)
    assert set(PUBLISHED_FIGURES) == set(FIGURES)


def test_parsing_imports_nothing_heavy():
    code = (
        "import sys; from private_lora.study.config import load_study; load_study([]);"
        "import private_lora.results.fingerprints;"
        "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'numba') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_only_the_stages_that_a_study_names_run(config):
    config["layer"]["groups"] = [{"backends": ["integer"], "shapes": [{"rows": 1, "inputs": 4, "outputs": 4}]}]
    config["stages"] = ["layer"]
    study = study_of(sweep(config))
    assert study.layers and not study.runs
    del config["stages"]  # all
    assert study_of(config).runs
    assert "stages[0]" in refused(config | {"stages": ["sweeep"]})
