"""A study's configuration: defaults and differences merged, checked, and expanded into specs.

Everything here runs while Snakemake parses, before any job: no torch, no pandas, no network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import ValidationError

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.results.records import FILES as RECORDED_FILES
from private_lora.results.records import check_committed
from private_lora.specs.costs import CostSpec
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES, chosen
from private_lora.specs.sentences import complaint
from private_lora.study.grid import (
    Study,
    expand_blocks,
    expand_estimates,
    expand_generations,
    expand_layers,
    expand_loopbacks,
    expand_runs,
    expand_worker_views,
)
from private_lora.study.sections import StudyConfig

DEFAULTS = ROOT / "config" / "config.yaml"


def load_study(paths: Iterable[str | Path]) -> Study:
    """The study of the default configuration with the given files on top, as `snakemake --configfile` would run it."""
    config = read_yaml(DEFAULTS)
    for path in paths:
        config = merge(config, read_yaml(Path(path)))
    return study_of(config)


def study_of(config: dict) -> Study:
    """The study that a merged configuration describes; raises UserError, in one sentence, on whatever cannot be run."""
    check_sections(config)
    recorded = recorded_directory("recorded", config["recorded"])
    beside = tuple(recorded_directory(f"beside[{i}]", name) for i, name in enumerate(config["beside"]))
    runs = {} if recorded else expand_runs(config)
    loopbacks = {} if recorded else expand_loopbacks(config)
    estimates = {} if recorded else expand_estimates(config)
    check_data([*runs.values(), *(spec.run for spec in (*loopbacks.values(), *estimates.values()))])
    return Study(
        results=Path(config["results"]),
        recorded=recorded,
        beside=beside,
        runs=runs,
        loopbacks=loopbacks,
        generations={} if recorded else expand_generations(config),
        estimates=estimates,
        layers={} if recorded else expand_layers(config),
        blocks={} if recorded else expand_blocks(config),
        worker_views={} if recorded else expand_worker_views(config),
        costs=CostSpec.from_dict(config["costs"]),
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


def check_sections(config: dict) -> None:
    """Nothing; raises UserError for the first value that a section does not know."""
    try:
        StudyConfig.model_validate(config)
    except ValidationError as error:
        path, text, _ = complaint(error)
        raise UserError(f"config: {path}: {text}" if path else f"config: {text}") from None


def check_data(specs: Iterable) -> None:
    """Nothing; raises UserError on unknown options, missing or malformed local files, or too few examples in them."""
    needed: dict[tuple, tuple] = {}
    for spec in specs:
        key = spec.data, json.dumps(spec.data_options, sort_keys=True), spec.held_out
        train, test = needed.get(key, (0, 0))
        examples = max(spec.eval_examples, spec.generate_examples)
        needed[key] = max(train, spec.train_examples), max(test, examples)
    if not needed:
        return
    # Imported here: numpy takes a moment, and a study of recorded rows has no texts.
    from private_lora.data.load import validate_data

    for (name, options, held_out), counts in needed.items():
        # Generating thousands of problems only to count them would cost a second at every start of Snakemake.
        counted = (*counts, held_out) if name == "jsonl" else ()
        _located("data_options", validate_data, name, json.loads(options), *counted)


def recorded_directory(where: str, name: str | None) -> Path | None:
    """The directory of recorded rows; raises UserError when it holds none, or runs whose code is in no commit."""
    if name is None:
        return None
    directory = Path(name)
    if not any((directory / file).is_file() for file in RECORDED_FILES):
        raise UserError(f"config: {where}: no {' or '.join(RECORDED_FILES)} in {directory}: check the path")
    _located(where, check_committed, directory)
    return directory


def _located(where: str, check, *arguments) -> None:
    """Call a check, its complaint preceded by where in the configuration it applies."""
    try:
        check(*arguments)
    except UserError as error:
        raise UserError(f"config: {where}: {error}") from None
