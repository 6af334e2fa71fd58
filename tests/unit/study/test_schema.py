"""JSON Schema of configurations and specs: current, and of the same opinion as the models it is generated from."""

import json

import jsonschema
import pytest

from private_lora.cli.main import main
from private_lora.core.paths import ROOT
from private_lora.specs.backends import BUILT_IN
from private_lora.study.config import DEFAULTS, load_study, merge, read_yaml
from private_lora.study.schema import MODELS, schemas

DIRECTORY = ROOT / "config" / "schema"


def refusals(name: str, values: dict) -> list[str]:
    schema = json.loads((DIRECTORY / f"{name}.json").read_text())
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(values)]


def test_the_committed_schemas_are_current(tmp_path):
    assert main(["schema", "--out", str(tmp_path)]) == 0
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in DIRECTORY.iterdir()}
    assert written == schemas()
    assert written == committed, "run: private-lora schema --out config/schema"
    assert set(written) == {f"{name}.json" for name in MODELS}


def test_configurations_of_the_repository_follow_the_schema():
    for path in [*(ROOT / "config").glob("*.yaml"), *(ROOT / "config/studies").glob("*.yaml")]:
        assert refusals("study", merge(read_yaml(DEFAULTS), read_yaml(path))) == [], path


@pytest.mark.parametrize(
    "change",
    [
        {"sweeep": {}},
        {"training": {"stepz": 1}},
        {"training": {"steps": "ten"}},
        {"seeds": [1, 1]},
        {"seeds": []},
        {"stages": ["sweeep"]},
        {"memory_mb": {"glew": 1}},
        {"layer": {"bits": 1}},
        {"costs": {"arrangements": []}},
        {"sweep": {"groups": [{"model": "nano", "backends": [{"nam": "float"}]}]}},
    ],
)
def test_the_schema_refuses_what_the_models_refuse(change):
    assert refusals("study", merge(read_yaml(DEFAULTS), change))


def test_specs_follow_their_schemas():
    study = load_study([])
    kinds = {"run": study.runs, "layer": study.layers, "block": study.blocks, "loopback": study.loopbacks}
    kinds |= {"generation": study.generations, "estimate": study.estimates, "worker_view": study.worker_views}
    for name, specs in (kinds | {"costs": {"": study.costs}}).items():
        for spec in specs.values():
            assert refusals(name, spec.to_dict()) == [], spec


@pytest.mark.parametrize("backend", [backend for backend in BUILT_IN if backend.name != "integer"], ids=lambda b: b.name)
def test_the_schema_knows_the_options_of_each_backend(backend):
    values = {"run_id": "a", "model": "nano", "data": "math_problems", "backend": backend.name}
    options = {name: field.default for name, field in backend.options.model_fields.items()}
    assert refusals("run", values | {"backend_options": options}) == []
    assert refusals("run", values | {"backend_options": options | {"unknown": 1}})
