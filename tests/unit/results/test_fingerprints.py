"""What makes the workflow run something again, and what does not."""

import pytest

from private_lora.core.paths import PACKAGE
from private_lora.results.fingerprints import code_fingerprint, files_behind, fingerprint, source_files
from private_lora.specs import quantizers
from private_lora.specs.descriptors import QuantizerDescriptor
from private_lora.study.config import load_study

WORDS = PACKAGE / "models/pretraining/english.py"
BLOCK = PACKAGE / "specs/block.py"
DESCRIBED = [PACKAGE / f"specs/{name}.py" for name in ("backends", "quantizers", "descriptors")]


@pytest.fixture(scope="module")
def study():
    return load_study([])


def test_the_word_list_of_pretraining_is_behind_no_measurement_of_time(study):
    for spec in (*study.layers.values(), *study.blocks.values()):
        assert WORDS not in files_behind(spec), spec.run_id
    assert study.layers and study.blocks


def edited(path, old, new, directory):
    assert old in path.read_text()
    copy = directory / path.name
    copy.write_text(path.read_text().replace(old, new))
    return copy


def test_what_a_block_multiplies_is_behind_every_block(study, tmp_path):
    changed = edited(BLOCK, "def products(self)", "def products(self, other=None)", tmp_path)
    for spec in study.blocks.values():
        files = files_behind(spec)
        assert BLOCK in files
        assert code_fingerprint(files) != code_fingerprint([changed if path == BLOCK else path for path in files])


def test_what_is_said_about_a_field_is_behind_nothing(tmp_path):
    changed = edited(BLOCK, '"""whose block it is"""', '"""name of the model"""', tmp_path)
    assert code_fingerprint([BLOCK]) == code_fingerprint([changed])


def test_a_description_is_behind_what_is_published_and_behind_no_run(study):
    specs = [*study.runs.values(), *study.measurements]
    assert all(not set(DESCRIBED) & set(files_behind(spec)) for spec in specs)
    assert set(DESCRIBED) <= set(source_files(frozenset({"publish.tables", "publish.figures", "costs.predict"})))


def test_what_a_quantizer_is_said_to_do_is_behind_its_runs_alone(study, monkeypatch):
    name = "dynamic_per_tensor"
    before = {run_id: fingerprint(spec) for run_id, spec in study.runs.items()}
    other = QuantizerDescriptor(name, quantizers.ACTIVATION_QUANTIZERS[name].ranges, symmetric=True)
    monkeypatch.setitem(quantizers.ACTIVATION_QUANTIZERS, name, other)
    changed = {run_id for run_id, spec in study.runs.items() if fingerprint(spec) != before[run_id]}
    assert changed == {run_id for run_id, spec in study.runs.items() if spec.activation_quantizer == name}
    assert changed
