"""A configuration that cannot be run: one sentence, a non-zero exit, no job, results as they were."""

import pytest

from private_lora.cli.main import main

NOTICES = ("Using workflow specific profile", "Config file")
QUANTIZERS = [{"activations": "dynamic_per_token", "weights": "static_per_channel"}]


def sweep(**group) -> dict:
    return {"sweep": {"groups": [{"model": "nano", "backends": ["integer"], "bits": [8]} | group]}}


def jsonl(path: str) -> dict:
    return {"training": {"data": "jsonl", "data_options": {"path": path}}}


BAD = {
    "typo": ({"training": {"stepz": 3}}, ["training", "'stepz'", "'steps'"]),
    "unknown_section": ({"sweeep": {}}, ["'sweeep'", "'sweep'"]),
    "unknown_quantizer": (
        {"quantizers": [{"activations": "per_row", "weights": "static_per_channel"}]},
        ["quantizers[0]", "'per_row'", "dynamic_per_token", "symmetric_per_token"],
    ),
    "unknown_backend": (sweep(backends=["intger"]), ["sweep.groups[0]", "'intger'", "glwe_simulated"]),
    "text_for_a_number": ({"training": {"steps": "ten"}}, ["training.steps", "whole number", "'ten'"]),
    "bits_1": (sweep(bits=[8, 1]), ["sweep.groups[0].bits[1]", "at least 2"]),
    "bits_40": (sweep(bits=[40]), ["sweep.groups[0].bits[0]", "at most 16"]),
    "missing_model": (sweep(model="./models/none"), ["sweep.groups[0]", "models/none"]),
    "empty_jsonl": (jsonl("empty.jsonl"), ["empty.jsonl is empty"]),
    "malformed_jsonl": (jsonl("bad.jsonl"), ["bad.jsonl, line 2"]),
    "missing_jsonl": (jsonl("none.jsonl"), ["none.jsonl"]),
    "negative_price": ({"costs": {"prices": {"traffic_per_gb": -1}}}, ["costs.prices.traffic_per_gb", "at least 0"]),
    "missing_records": ({"recorded": "results/recorded/none"}, ["results/recorded/none"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configuration_is_refused_in_one_sentence(finished, name):
    config, expected = BAD[name]
    (finished.root / "empty.jsonl").write_text("")
    (finished.root / "bad.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": \n')
    before = finished.files()
    result = finished.snakemake("--configfile", finished.configure("bad.yaml", config))
    assert result.returncode != 0
    said = [line for line in result.stdout.splitlines() if not line.startswith(NOTICES)]
    assert len(said) == 1, result.stdout
    assert said[0].startswith("Error: ")
    for text in expected:
        assert text in said[0]
    assert finished.files() == before


@pytest.mark.parametrize("files", [["none.yaml"], ["config/smoke.yaml", "none.yaml"]])
def test_a_configuration_that_does_not_exist_is_one_sentence(tree, files):
    for flag in ("--configfile", "--configfiles"):
        result = tree.snakemake("--dry-run", flag, *files)
        said = [line for line in result.stdout.splitlines() if not line.startswith(NOTICES)]
        assert (result.returncode, said) == (1, ["Error: there is no configuration none.yaml: check the path"])


def test_the_command_line_says_so_too(tmp_path, capsys):
    assert main(["validate", "--config", str(tmp_path / "none.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot read the configuration" in line and "none.yaml" in line
