"""Jobs of a study: which runs share a process, and about how long each takes. Imports neither torch nor pandas.

A job takes seconds to import what it needs, most runs of a study not much more: so neighbours in the grid are one job, and each
run a fork of its process. Runs of models that are not built in are jobs of their own: they are large, or long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from private_lora.results.fingerprints import AnySpec
from private_lora.specs.block import BlockSpec
from private_lora.specs.estimate import EstimateSpec
from private_lora.specs.layer import LayerSpec
from private_lora.specs.loopback import GenerationSpec, LoopbackSpec, run_of
from private_lora.specs.models import BUILT_IN_MODELS
from private_lora.specs.run import RunSpec
from private_lora.specs.split import SplitSpec
from private_lora.specs.worker_view import WorkerViewSpec
from private_lora.study.grid import input_files

# A job of several runs is not to take longer: then jobs side by side end at about the same time.
LONGEST_S = 150.0
TIMED_FIRST = 10**6
START_S = 5.0  # of a process: most of it imports
# Long, and one at a time. Concrete ML: large.
KEPT_APART = ("glwe", "concrete_ml")

# Seconds of one core of an EPYC, rounded: they decide what starts first and what "about ... left" says, and nothing else.
TOKEN_S = 1e-4  # of mini-llama, forward, float
MODEL_FACTOR = {"nano": 0.2, "smollm2": 12.0}
BACKEND_FACTOR = {"integer": 1.3, "glwe_simulated": 1.6, "packed_simulated": 2.2, "packed_approx": 2.4, "packed": 3.0}
GLWE_TOKEN_S = 5.0  # of nano, forward
GLWE_VALUE_S = 5e-3  # of one value of a product
BLOCK_PRODUCT_S = 5e-11  # of one token with one weight, by one backend, once
GENERATED_TOKENS, GENERATED_TOKEN_S = 64, 0.015
CALIBRATION_S = 20.0  # with the start of the run's own process


@dataclass(frozen=True)
class Batch:
    """Runs of one job. name: the stage and the job's number in it."""

    name: str
    specs: tuple[AnySpec, ...]

    @property
    def seconds(self) -> float:
        """About how long the job takes."""
        return START_S + sum(expected_seconds(spec) for spec in self.specs)

    @property
    def is_timed(self) -> bool:
        """Whether time is the result: such a job gets all cores, so that nothing else of the study runs beside it."""
        return any(not isinstance(spec, RunSpec | WorkerViewSpec) or spec.stage == "full_size" for spec in self.specs)

    @property
    def priority(self) -> int:
        """What is timed goes first, while all cores are free, and then what takes longest."""
        return round(self.seconds) + (TIMED_FIRST if self.is_timed else 0)

    @property
    def gpus(self) -> int:
        """GPUs that the job needs; a cluster is asked for them."""
        return int(any(run_of(spec).device == "cuda" for spec in self.specs))

    @property
    def memory_bus(self) -> int:
        """1 where two jobs at once take as long as one after the other: GLWE is bound by memory bandwidth."""
        runs = [run_of(spec) for spec in self.specs]
        return int(any(isinstance(run, SplitSpec) and run.backend == "glwe" for run in runs))


def batches(specs: Iterable[AnySpec]) -> dict[str, Batch]:
    """The jobs of specs in the order of the grid, by name: neighbours of one stage together, as long as the job stays short."""
    found: dict[str, Batch] = {}
    numbers: dict[str, int] = {}
    for group in _neighbours(specs):
        stage = group[0].stage
        numbers[stage] = numbers.get(stage, 0) + 1
        name = f"{stage}-{numbers[stage]}"
        found[name] = Batch(name, tuple(group))
    return found


def _neighbours(specs: Iterable[AnySpec]) -> Iterator[list[AnySpec]]:
    group: list[AnySpec] = []
    for spec in specs:
        if group and not _fits(group, spec):
            yield group
            group = []
        group.append(spec)
    if group:
        yield group


def _fits(group: list[AnySpec], spec: AnySpec) -> bool:
    last = group[-1]
    if (last.stage, run_of(last).device) != (spec.stage, run_of(spec).device) or is_apart(last) or is_apart(spec):
        return False
    return sum(map(expected_seconds, [*group, spec])) <= LONGEST_S


def is_apart(spec: AnySpec) -> bool:
    """Whether a run is a job of its own."""
    run = run_of(spec)
    return isinstance(run, SplitSpec) and (run.backend in KEPT_APART or run.model not in BUILT_IN_MODELS)


def input_files_of(batch: Batch) -> list[str]:
    """Local files that the numbers of a job's runs depend on: base models, and text that the user brought."""
    runs = [run for run in map(run_of, batch.specs) if isinstance(run, SplitSpec)]
    return list(dict.fromkeys(path for run in runs for path in input_files(run)))


def expected_seconds(spec: AnySpec) -> float:
    """About how long a run takes, once its process has started."""
    if isinstance(spec, LayerSpec):
        value_s = GLWE_VALUE_S if spec.backend == "glwe" else 0.0
        return 0.5 + (spec.warmup + spec.repeats) * spec.rows * spec.outputs * value_s
    if isinstance(spec, BlockSpec):
        return _block_seconds(spec)
    if isinstance(spec, EstimateSpec):
        return CALIBRATION_S + expected_seconds(spec.run)
    if isinstance(spec, LoopbackSpec):
        return 10.0 * bool(spec.workers) + 2 * expected_seconds(spec.run)
    if isinstance(spec, GenerationSpec):
        tokens = spec.repeats * spec.run.max_new_tokens * MODEL_FACTOR.get(spec.run.model, 1.0)
        return 2.0 + 10.0 * bool(spec.workers) + tokens * GENERATED_TOKEN_S * BACKEND_FACTOR.get(spec.run.backend, 1.0)
    if isinstance(spec, WorkerViewSpec):
        return 3.0 + MODEL_FACTOR.get(spec.model, 1.0)
    if spec.backend == "glwe":
        return spec.steps * 3 * spec.batch_size * spec.sequence_length * GLWE_TOKEN_S * (spec.blocks or 2) / 2
    factor = BACKEND_FACTOR.get(spec.backend, 1.0) * MODEL_FACTOR.get(spec.model, 1.0)
    answers_s = GENERATED_TOKENS * GENERATED_TOKEN_S * 2 * bool(spec.generate_examples)
    return (12.0 if spec.backend == "concrete_ml" else 1.5) + answers_s + _forward_tokens(spec) * TOKEN_S * factor


def _block_seconds(spec: BlockSpec) -> float:
    passes = spec.warmup + spec.repeats
    if any(backend["name"] == "glwe" for backend in spec.backends):
        values = sum(inputs + outputs for inputs, outputs in spec.products())
        return 2.0 + passes * spec.tokens * values * GLWE_VALUE_S / 2
    weights = sum(inputs * outputs for inputs, outputs in spec.products())
    return 2.0 + passes * spec.tokens * weights * len(spec.backends) * BLOCK_PRODUCT_S


def _forward_tokens(spec: RunSpec) -> int:
    """Tokens that pass forward through the model; a pass backward counts twice."""
    evaluations = 2 + (spec.steps - 1) // spec.eval_every if spec.eval_every else 2
    trained = 3 * spec.steps * spec.batch_size * spec.sequence_length
    evaluated = evaluations * spec.eval_examples * spec.sequence_length
    return trained + evaluated + 2 * spec.generate_examples * GENERATED_TOKENS
