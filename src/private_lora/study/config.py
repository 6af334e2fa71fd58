"""A study's configuration: defaults and differences merged, checked, and expanded into specs.

Everything here runs while Snakemake parses, before any job: no torch, no pandas, no network.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import jsonschema
import yaml

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.core.paths import ROOT
from private_lora.specs.costs import CostSpec
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES, chosen
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from private_lora.study.grid import Study, expand_blocks, expand_layers, expand_loopbacks, expand_runs

DEFAULTS = ROOT / "config" / "config.yaml"
SCHEMA = ROOT / "config" / "schema" / "config.schema.yaml"
RECORDED_FILES = ("convergence.csv", "loopback.csv", "layer.csv", "block.csv")
KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}


def load_study(paths: Iterable[str | Path]) -> Study:
    """The study of the default configuration with the given files on top, as `snakemake --configfile` would run it."""
    config = read_yaml(DEFAULTS)
    for path in paths:
        config = merge(config, read_yaml(Path(path)))
    return study_of(config)


def study_of(config: dict) -> Study:
    """The study that a merged configuration describes; raises UserError, in one sentence, on whatever cannot be run."""
    check_schema(config)
    check_names(config)
    recorded = recorded_directory("recorded", config["recorded"])
    beside = tuple(recorded_directory(f"beside[{i}]", name) for i, name in enumerate(config["beside"]))
    runs = {} if recorded else expand_runs(config)
    loopbacks = {} if recorded else expand_loopbacks(config)
    check_data([*runs.values(), *(spec.run_spec for spec in loopbacks.values())])
    return Study(
        results=Path(config["results"]),
        recorded=recorded,
        beside=beside,
        runs=runs,
        loopbacks=loopbacks,
        layers={} if recorded else expand_layers(config),
        blocks={} if recorded else expand_blocks(config),
        costs=cost_spec(config["costs"]),
        tables=chosen(PUBLISHED_TABLES, config["publish"]["tables"]),
        figures=chosen(PUBLISHED_FIGURES, config["publish"]["figures"]),
        memory_mb=config["memory_mb"],
    )


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; raises UserError with the line number when there is none."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}, line {error.problem_mark.line + 1}: not valid YAML: {error.problem}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a configuration is a mapping of keys to values")
    return content


def merge(base: dict, differences: dict) -> dict:
    """`base` with `differences` on top: mappings merge key by key, anything else, lists too, is replaced."""
    merged = dict(base)
    for key, value in differences.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def check_schema(config: dict) -> None:
    """Nothing; raises UserError for the first value that the schema refuses."""
    validator = jsonschema.Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    error = next(validator.iter_errors(config), None)
    if error is not None:
        raise UserError(f"config: {_sentence(error)}")


def check_names(config: dict) -> None:
    """Nothing; raises UserError on an unknown table, figure or shared quantizer. Groups are checked with their runs."""
    for kind, known in (("table", PUBLISHED_TABLES), ("figure", PUBLISHED_FIGURES)):
        for i, name in enumerate(chosen(known, config["publish"][f"{kind}s"])):
            _located(f"publish.{kind}s[{i}]", check_name, kind, name, known)
    for i, pair in enumerate(config["quantizers"]):
        where = f"quantizers[{i}]"
        _located(where, check_name, "activation quantizer", pair["activations"], ACTIVATION_QUANTIZERS)
        _located(where, check_name, "weight quantizer", pair["weights"], WEIGHT_QUANTIZERS)


def cost_spec(section: dict) -> CostSpec:
    """What the section `costs` asks for; raises UserError on what cannot be predicted."""
    try:
        return CostSpec.from_dict(section)
    except UserError as error:
        raise UserError(f"config: costs: {error}") from None


def check_data(specs: Iterable) -> None:
    """Nothing; raises UserError on unknown options, missing or malformed local files, or too few examples in them."""
    needed: dict[tuple, tuple] = {}
    for spec in specs:
        key = spec.data, tuple(sorted(spec.data_options.items()))
        train, test = needed.get(key, (0, 0))
        examples = max(spec.eval_examples, spec.generate_examples)
        needed[key] = max(train, spec.train_examples), max(test, examples)
    if not needed:
        return
    # Imported here: numpy takes a moment, and a study of recorded rows has no texts.
    from private_lora.data.load import validate_data

    for (name, options), counts in needed.items():
        # Generating thousands of problems only to count them would cost a second at every start of Snakemake.
        _located("data_options", validate_data, name, dict(options), *(counts if name == "jsonl" else ()))


def recorded_directory(where: str, name: str | None) -> Path | None:
    """The directory of recorded rows; raises UserError when it holds none."""
    if name is None:
        return None
    directory = Path(name)
    if not any((directory / file).is_file() for file in RECORDED_FILES):
        raise UserError(f"config: {where}: no {' or '.join(RECORDED_FILES)} in {directory}: check the path")
    return directory


def _located(where: str, check, *arguments) -> None:
    """Call a check, its complaint preceded by where in the configuration it applies."""
    try:
        check(*arguments)
    except UserError as error:
        raise UserError(f"config: {where}: {error}") from None


def _sentence(error: jsonschema.ValidationError) -> str:
    """Path of the offending value and what it should be, e.g. `training.steps: must be a whole number, not 'ten'`."""
    path = _path(error.absolute_path)
    prefix = f"{path}: " if path else ""
    value, expected = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            return prefix + _unknown_key(value, error.schema["properties"])
        case "type":
            kinds = [expected] if isinstance(expected, str) else expected
            return f"{prefix}must be {' or '.join(KINDS[k] for k in kinds)}, not {_shown(value)}{_number_hint(value, kinds)}"
        case "required":
            missing = next(key for key in expected if key not in value)
            return f"{prefix}key {missing!r} is missing"
        case "minimum" | "exclusiveMinimum":
            return f"{prefix}must be at least {error.schema.get('minimum', 'above 0')}, not {value!r}"
        case "maximum":
            return f"{prefix}must be at most {expected}, not {value!r}"
        case "enum":
            return f"{prefix}must be one of {', '.join(map(str, expected))}, not {value!r}"
        case "minItems" | "minLength":
            return f"{prefix}must not be empty"
        case "uniqueItems":
            return f"{prefix}must not list anything twice, as {value!r} does"
    return prefix + error.message


def _unknown_key(mapping: dict, properties: dict) -> str:
    key = next(key for key in mapping if key not in properties)
    close = difflib.get_close_matches(str(key), properties, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"unknown key {key!r}{hint} (known are {', '.join(properties)})"


def _shown(value) -> str:
    return "empty" if value is None else repr(value)


def _number_hint(value, kinds: list[str]) -> str:
    """YAML 1.1 reads 2e-3 as text, which nobody expects."""
    if not isinstance(value, str) or not {"number", "integer"} & set(kinds):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return " (that is text: a number has no quotes in YAML, and a dot before its e)"


def _path(parts: Iterable) -> str:
    """`sweep.groups[0].bits[1]`."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
