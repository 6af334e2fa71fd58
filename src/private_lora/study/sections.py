"""The sections of a study's configuration, as models: what its YAML may say, and config/schema/study.json is generated from.

They check; runs are made from the configuration as it was written, in which a key that is left out is not there.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, create_model
from pydantic_core import PydanticUndefined

from private_lora.specs.backends import BACKENDS
from private_lora.specs.base import Model
from private_lora.specs.costs import CostSpec
from private_lora.specs.data import DATASETS
from private_lora.specs.fields import Bandwidth, Bits, ConstantRows, NotNegative, Positive, Quantity, Weights
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from private_lora.specs.run import RunSpec
from private_lora.specs.sentences import check_keys, one_of, unique
from private_lora.specs.stages import STAGES

MEMORY = ("default", *STAGES, *BACKENDS)
# Fields of a run that a section, or a group in it, may set under `training`.
TRAINING = (
    "data",
    "data_options",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_targets",
    "share_inputs",
    "recompute",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "warmup_steps",
    "max_grad_norm",
    "lr_schedule",
    "steps",
    "batch_size",
    "sequence_length",
    "longer",
    "train_examples",
    "rehearsed_rows",
    "eval_examples",
    "held_out",
    "eval_every",
    "generate_examples",
    "pad",
    "general_examples",
    "count_padding",
    "count_newline",
    "calibration",
    "checkpoint_every",
    "zero_row_probes",
)


def _absent():
    """Stands for a key that was left out: what is not there is no difference from what is above it."""


def _optional() -> Any:
    return Field(default_factory=_absent)


def _either(first: Any, second: Any, is_first) -> Any:
    """What has two forms; complaints are about the one that was meant."""
    which = Discriminator(lambda value: "(first)" if is_first(value) else "(second)")
    return Annotated[Annotated[first, Tag("(first)")] | Annotated[second, Tag("(second)")], which]


def _list_of(kind: Any) -> Any:
    """A list that holds something, and nothing twice."""
    schema = Field(min_length=1, json_schema_extra={"uniqueItems": True})
    return Annotated[list[kind], BeforeValidator(unique), schema]


def _fields_of_run(name: str, required: bool) -> type[Model]:
    """A model of the fields of a run in TRAINING."""
    fields: dict[str, Any] = {}
    for field in TRAINING:
        info = copy.copy(RunSpec.model_fields[field])
        info.default, info.default_factory = PydanticUndefined, None if required else _absent
        fields[field] = (info.annotation, info)
    return create_model(name, __base__=Model, __doc__="Settings of fine-tuning.", **fields)


def _known_memory(value):
    return check_keys(value, MEMORY)


Text = Annotated[str, Field(min_length=1)]
Seeds = _list_of(NotNegative)
Sizes = _list_of(Positive)
Training = _fields_of_run("Training", required=True)
Differences = _fields_of_run("Differences", required=False)


class BitPair(Model):
    """A width for each."""

    activations: Bits
    weights: Bits


class Pair(Model):
    """Quantizers of activations (and gradients) and of weights."""

    activations: one_of("activation quantizer", ACTIVATION_QUANTIZERS)
    weights: one_of("weight quantizer", WEIGHT_QUANTIZERS)


class Backend(Model):
    """A backend with options, and the variant that tells two of one name apart."""

    name: str
    variant: str = _optional()
    options: dict[str, Any] = _optional()


BitWidth = _either(BitPair, Bits, lambda value: isinstance(value, (dict, BitPair)))
Backends = _list_of(_either(Backend, str, lambda value: isinstance(value, (dict, Backend))))
Pairs = _list_of(Pair)


class Grid(Model):
    """Backends x quantizers x bits x constant_rows x seeds."""

    model: Text
    backends: Backends
    revision: str | None = _optional()
    weights: Weights = _optional()
    device: str = _optional()
    variant: str = _optional()
    quantizers: Pairs = _optional()
    bits: _list_of(BitWidth) = _optional()
    blocks: Sizes = _optional()
    constant_rows: _list_of(ConstantRows) = _optional()
    seeds: Seeds = _optional()


class Group(Grid):
    """A grid of fine-tuning runs."""

    training: Differences = _optional()


class FineTuning(Model):
    """A stage of fine-tuning runs."""

    groups: list[Group]
    training: Differences = _optional()
    seeds: Seeds = _optional()


class Arrangement(Model):
    """How a run's products reach their weights."""

    name: Text
    workers: list[_either(int, str, lambda value: isinstance(value, int))]
    tls: bool = _optional()
    check_answers: bool = _optional()
    rows_per_question: Positive = _optional()
    bandwidth_bits_per_s: Bandwidth = _optional()
    latency_s: Quantity = _optional()


Arrangements = Annotated[list[Arrangement], Field(min_length=1)]


class LoopbackGroup(Group):
    """A grid of runs, each in every arrangement."""

    arrangements: Arrangements = _optional()


class Loopback(Model):
    """Fine-tuning through workers that are processes of this machine."""

    arrangements: Arrangements
    groups: list[LoopbackGroup]
    training: Differences = _optional()
    seeds: Seeds = _optional()


class GenerationGroup(Grid):
    """A grid of generated texts, each in every arrangement."""

    arrangements: Arrangements = _optional()
    prompt_tokens: Positive = _optional()
    new_tokens: Positive = _optional()
    repeats: Positive = _optional()


class Generation(Model):
    """Texts generated token by token, in process and through workers."""

    arrangements: Arrangements
    prompt_tokens: Positive
    new_tokens: Positive
    repeats: Positive
    groups: list[GenerationGroup]
    seeds: Seeds = _optional()


class Shape(Model):
    """Of one linear layer, and the rows that are multiplied."""

    rows: Positive
    inputs: Positive
    outputs: Positive


class LayerGroup(Model):
    """Backends x shapes."""

    backends: Backends
    shapes: _list_of(Shape)
    device: str = _optional()
    bits: BitWidth = _optional()


class Layer(Model):
    """Times of one linear layer."""

    bits: BitWidth
    repeats: Positive
    warmup: NotNegative
    seed: NotNegative
    groups: list[LayerGroup]


class BlockGroup(Model):
    """One measurement for each number of tokens, with all backends in it."""

    tokens: Sizes
    backends: Backends
    model: Text = _optional()
    layers: _list_of(str) = _optional()
    share_inputs: bool = _optional()
    bits: BitWidth = _optional()
    repeats: Positive = _optional()
    warmup: NotNegative = _optional()
    device: str = _optional()
    variant: str = _optional()


class Block(Model):
    """Times of all linear layers of a transformer block."""

    model: Text
    share_inputs: bool
    bits: BitWidth
    repeats: Positive
    warmup: NotNegative
    seed: NotNegative
    groups: list[BlockGroup]


class WorkerView(Model):
    """What a worker receives of a text."""

    data: one_of("dataset", DATASETS)
    data_options: dict[str, Any]
    questions: Positive
    tokens: Positive
    columns: Positive
    groups: list[Grid]
    seeds: Seeds = _optional()


def _names(what: str, known) -> Any:
    """A list of names, or all of them."""
    listed = Annotated[list[one_of(what, known)], BeforeValidator(unique)]
    return _either(Literal["all"], listed, lambda value: isinstance(value, str))


class Publish(Model):
    """What to make of the records."""

    tables: _names("table", PUBLISHED_TABLES)
    figures: _names("figure", PUBLISHED_FIGURES)


class StudyConfig(Model):
    """A merged configuration."""

    results: Text
    recorded: Text | None
    beside: Annotated[list[Text], BeforeValidator(unique)]
    stages: Annotated[list[Literal[STAGES]], BeforeValidator(unique)] = _optional()
    seeds: Seeds
    quantizers: Pairs
    training: Training
    knowledge: FineTuning = _optional()
    sweep: FineTuning
    overflow: FineTuning = _optional()
    codebase: FineTuning
    inflation: FineTuning
    encrypted: FineTuning
    packed: FineTuning
    full_size: FineTuning
    loopback: Loopback
    generation: Generation = _optional()
    estimate: FineTuning = _optional()
    layer: Layer
    block: Block
    worker_view: WorkerView = _optional()
    costs: CostSpec
    publish: Publish
    memory_mb: Annotated[
        dict[str, Positive],
        BeforeValidator(_known_memory),
        Field(json_schema_extra={"propertyNames": {"enum": list(MEMORY)}, "required": ["default"]}),
    ]
