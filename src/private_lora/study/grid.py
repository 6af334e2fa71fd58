"""The grid of a study: every fine-tuning run and latency measurement that a valid configuration asks for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.models.lookup import gguf_path, local_directory
from private_lora.models.shapes import architecture_of
from private_lora.specs.backends import BACKENDS, PLAINTEXT
from private_lora.specs.block import BlockSpec
from private_lora.specs.costs import CostSpec
from private_lora.specs.estimate import EstimateSpec
from private_lora.specs.generate import GenerateSpec
from private_lora.specs.layer import LayerSpec
from private_lora.specs.loopback import GenerationSpec, LoopbackSpec, ThroughWorkers, run_of
from private_lora.specs.models import BUILT_IN_MODELS
from private_lora.specs.run import RunSpec
from private_lora.specs.split import SplitSpec
from private_lora.specs.stages import FINE_TUNING, STAGES
from private_lora.specs.worker_view import WorkerViewSpec
from private_lora.study.checks import check_fits_model, check_workers

MODEL_FILES = ("config.json", "tokenizer.json", "*.safetensors")


@dataclass(frozen=True)
class Study:
    """What a configuration asks for.

    results: directory of everything the study makes. recorded: directory of earlier records to publish instead of running.
    beside: directories of records to publish as well.
    runs, loopbacks, generations, estimates, layers, blocks, worker_views: specs by run_id. costs: what the cost model
    predicts. tables, figures: names to publish. memory_mb: by operation and backend, and `default`.
    """

    results: Path
    recorded: Path | None
    beside: tuple[Path, ...]
    runs: dict[str, RunSpec]
    loopbacks: dict[str, LoopbackSpec]
    generations: dict[str, GenerationSpec]
    estimates: dict[str, EstimateSpec]
    layers: dict[str, LayerSpec]
    blocks: dict[str, BlockSpec]
    worker_views: dict[str, WorkerViewSpec]
    costs: CostSpec
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    memory_mb: dict[str, int]

    @property
    def measurements(self) -> list:
        """All specs but those of fine-tuning, in the order of the stages."""
        kinds = self.loopbacks, self.generations, self.estimates, self.layers, self.blocks, self.worker_views
        return [spec for kind in kinds for spec in kind.values()]

    def memory_of(self, spec: RunSpec | ThroughWorkers | LayerSpec | BlockSpec | WorkerViewSpec) -> int:
        """Megabytes to reserve for a job: the most that is said of its stage and its backends, or else the default."""
        if isinstance(spec, BlockSpec):
            names = [spec.stage, *(backend["name"] for backend in spec.backends)]
        else:
            run = run_of(spec)
            names = [spec.stage, run.backend]
            if spec.stage == "full_size" and run.model in BUILT_IN_MODELS:
                names.remove("full_size")  # whose models these are not
        return max((self.memory_mb[name] for name in names if name in self.memory_mb), default=self.memory_mb["default"])


def expand_runs(config: dict) -> dict[str, RunSpec]:
    """All fine-tuning runs by run_id; raises UserError, naming the group, on a value that could not be run, as those below."""
    return _expanded(config, FINE_TUNING, lambda stage, group: _group_runs(config, stage, group))


def expand_loopbacks(config: dict) -> dict[str, LoopbackSpec]:
    """All runs through workers by run_id."""
    return _expanded(config, ["loopback"], lambda _, group: _group_loopbacks(config, group))


def expand_generations(config: dict) -> dict[str, GenerationSpec]:
    """All measurements of generated texts by run_id."""
    return _expanded(config, ["generation"], lambda _, group: _group_generations(config, group))


def expand_estimates(config: dict) -> dict[str, EstimateSpec]:
    """All runs that are estimated before they start, by run_id."""
    return _expanded(config, ["estimate"], lambda _, group: _group_estimates(config, group))


def expand_layers(config: dict) -> dict[str, LayerSpec]:
    """All latency measurements by run_id."""
    return _expanded(config, ["layer"], lambda section, group: _group_layers(config[section], group))


def expand_blocks(config: dict) -> dict[str, BlockSpec]:
    """All measurements of a whole block by run_id."""
    return _expanded(config, ["block"], lambda section, group: _group_blocks(config[section], group))


def expand_worker_views(config: dict) -> dict[str, WorkerViewSpec]:
    """All looks at what a worker receives, by run_id."""
    return _expanded(config, ["worker_view"], lambda _, group: _group_worker_views(config, group))


def input_files(spec: SplitSpec) -> list[str]:
    """Local files that a run's numbers depend on: the base model, and text that the user brought."""
    return model_files(spec) + private_files(spec)


def model_files(spec: SplitSpec) -> list[str]:
    """Those of the base model, which workers have as well."""
    file, directory = gguf_path(spec.model), local_directory(spec.model)
    found = [p for pattern in MODEL_FILES for p in sorted(directory.glob(pattern))] if directory and not file else []
    return relative(found + ([file] if file else []))


def private_files(spec: SplitSpec) -> list[str]:
    """Those of text that the user brought."""
    if not isinstance(spec, RunSpec) or spec.data != "jsonl":
        return []
    return relative([Path(spec.data_options[k]) for k in ("path", "train_path", "test_path") if spec.data_options.get(k)])


def relative(paths: list[Path]) -> list[str]:
    """The paths, relative to the working directory if inside it: a clone that moves keeps its results."""
    here = Path.cwd()
    return [str(p.relative_to(here)) if p.is_relative_to(here) else str(p) for p in paths]


def _groups(config: dict, section: str) -> list[tuple[str, dict]]:
    """Groups of a stage, with their paths; none of a stage that `stages` leaves out, or an older configuration has not."""
    if section not in config or section not in config.get("stages", STAGES):
        return []
    return [(f"{section}.groups[{i}]", group) for i, group in enumerate(config[section]["groups"])]


def _in_group(where: str, specs: Iterator) -> Iterator:
    """The checked specs, any complaint preceded by where in the configuration they come from."""
    try:
        yield from specs
    except UserError as error:
        raise UserError(f"config: {where}: {error}") from None


def _expanded(config: dict, sections: Iterable[str], expand: Callable[[str, dict], Iterator]) -> dict:
    """The specs of sections by run_id; expand: gives those of a section's group."""
    groups = [(section, where, group) for section in sections for where, group in _groups(config, section)]
    return _by_id((where, spec) for section, where, group in groups for spec in _in_group(where, expand(section, group)))


def _by_id(found: Iterator[tuple[str, Any]]) -> dict:
    specs: dict = {}
    for where, spec in found:
        if spec.run_id in specs:
            raise UserError(
                f"config: {where}: two runs would both be called {spec.run_id}: take one out, or give its group a variant"
            )
        specs[spec.run_id] = spec
    return specs


def _combinations(config: dict, stage: str, group: dict) -> Iterator[dict]:
    """Backends x quantizers x bits x constant_rows x seeds of one group; a float run has neither of the middle three."""
    section = config[stage]
    local_directory(group["model"])
    fixed = {key: group[key] for key in ("model", "revision", "weights", "device") if group.get(key) is not None}
    seeds = group.get("seeds", section.get("seeds", config["seeds"]))
    for backend in group["backends"]:
        backend = {"name": backend} if isinstance(backend, str) else backend
        check_name("backend", backend["name"], BACKENDS)
        variant = " ".join(v for v in (backend.get("variant"), group.get("variant")) if v)
        common = fixed | {"stage": stage, "backend": backend["name"], "variant": variant}
        common |= {"backend_options": backend.get("options", {})}
        quantizations = _quantizations(config, group, backend["name"])
        for quantization, seed, blocks in itertools.product(quantizations, seeds, group.get("blocks", [None])):
            yield common | quantization | {"seed": seed, "blocks": blocks}


def _group_runs(config: dict, stage: str, group: dict) -> Iterator[RunSpec]:
    """The fine-tuning runs of one group."""
    training = config["training"] | config[stage].get("training", {}) | group.get("training", {})
    for values in _combinations(config, stage, group):
        values = training | values
        if BACKENDS[values["backend"]].kind == "trainer":
            values |= {"share_inputs": False, "recompute": False}  # its layers and its loop are its own
        spec = RunSpec.from_dict(values | {"run_id": run_id(values)})
        check_fits_model(spec, spec.sequence_length, "sequence_length")
        yield spec


def _arranged(config: dict, section: str, group: dict) -> Iterator[tuple[dict, dict]]:
    """A group for each of its arrangements, whose name tells them apart, and how that reaches the weights."""
    for arrangement in group.get("arrangements", config[section]["arrangements"]):
        how = {key: value for key, value in arrangement.items() if key != "name"}
        how["workers"] = [str(layers) for layers in arrangement["workers"]]
        yield group | {"variant": " ".join(v for v in (group.get("variant"), arrangement["name"]) if v)}, how


def _group_loopbacks(config: dict, group: dict) -> Iterator[LoopbackSpec]:
    """Every run of a group in each of its arrangements."""
    for named, how in _arranged(config, "loopback", group):
        for run in _group_runs(config, "loopback", named):
            spec = LoopbackSpec.from_dict(how | {"run_id": run.run_id, "run": run.to_dict()})
            check_workers(spec)
            yield spec


def _group_generations(config: dict, group: dict) -> Iterator[GenerationSpec]:
    """Every text of a group in each of its arrangements."""
    section = config["generation"]
    sizes = {key: group.get(key, section[key]) for key in ("prompt_tokens", "new_tokens", "repeats")}
    asked = {"prompt_tokens": sizes["prompt_tokens"], "max_new_tokens": sizes["new_tokens"]}
    for named, how in _arranged(config, "generation", group):
        for values in _combinations(config, "generation", named):
            fields = {key: value for key, value in values.items() if key in GenerateSpec.model_fields}
            run = GenerateSpec.from_dict(fields | asked)
            check_fits_model(run, sum(asked.values()), "prompt_tokens and new_tokens")
            about = {"run_id": run_id(values), "variant": values["variant"], "repeats": sizes["repeats"]}
            spec = GenerationSpec.from_dict(how | about | {"run": run.to_dict()})
            check_workers(spec)
            yield spec


def _group_estimates(config: dict, group: dict) -> Iterator[EstimateSpec]:
    """Every run of a group, with the estimate of it."""
    for run in _group_runs(config, "estimate", group):
        yield EstimateSpec.from_dict({"run_id": run.run_id, "run": run.to_dict()})


def _group_worker_views(config: dict, group: dict) -> Iterator[WorkerViewSpec]:
    """Every backend of a group, each sent the same text."""
    text = {key: config["worker_view"][key] for key in ("data", "data_options", "questions", "tokens", "columns")}
    for values in _combinations(config, "worker_view", group):
        spec = WorkerViewSpec.from_dict(text | values | {"run_id": run_id(values)})
        check_fits_model(spec, spec.tokens, "tokens")
        yield spec


def _quantizations(config: dict, group: dict, backend: str) -> list[dict]:
    """The fields of a spec that say how a run quantizes, one dictionary for each combination."""
    if not BACKENDS[backend].quantized:
        return [{}]
    if not group.get("bits"):
        raise UserError(f"backend {backend!r} quantizes, so the group needs bits")
    pairs, rows = group.get("quantizers", config["quantizers"]), group.get("constant_rows", ["exact"])
    if BACKENDS[backend].kind == "trainer":
        # It has quantizers of its own, with the reference's scale of constant rows, and records what it took.
        pairs, rows = pairs[:1], ["reference"]
    return [
        {
            "activation_quantizer": pair["activations"],
            "weight_quantizer": pair["weights"],
            "constant_rows": constant_rows,
            **_bit_fields(bits),
        }
        for pair, constant_rows, bits in itertools.product(pairs, rows, group["bits"])
    ]


def _bit_fields(bits: int | dict) -> dict:
    bits = bits if isinstance(bits, dict) else {"activations": bits, "weights": bits}
    return {"activation_bits": bits["activations"], "weight_bits": bits["weights"]}


def run_id(values: dict) -> str:
    """A readable name such as `sweep_mini-llama_integer_dynamic-token_static-channel_8bit_seed0`."""
    parts = [values["stage"], values["model"].strip("./~"), values["backend"], values["variant"]]
    if values.get("device", "cpu") != "cpu":
        parts.append(values["device"])
    if values.get("weights", "pretrained") != "pretrained":
        parts.append("random-weights")
    if values.get("blocks"):
        parts.append(f"{values['blocks']}-blocks")
    if values["stage"] == "full_size" and not values["share_inputs"]:
        parts.append("apart")  # a full step is measured both ways
    if "activation_bits" in values:
        if BACKENDS[values["backend"]].kind != "trainer":
            pair = values["activation_quantizer"], values["weight_quantizer"]
            parts += [name.replace("_per_", "-") for name in pair]
            parts.append("reference-rows" if values["constant_rows"] == "reference" else "")
        parts.append(_bits_name(values["activation_bits"], values["weight_bits"]))
    parts.append(f"seed{values['seed']}")
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts if part)


def _bits_name(activation_bits: int, weight_bits: int) -> str:
    return f"{activation_bits}bit" if activation_bits == weight_bits else f"a{activation_bits}w{weight_bits}bit"


def _group_layers(section: dict, group: dict) -> Iterator[LayerSpec]:
    """Backends x shapes of one group, each at the group's bits."""
    bits = _bit_fields(group.get("bits", section["bits"]))
    device = group.get("device", "cpu")
    listed = [{"name": b} if isinstance(b, str) else b for b in group["backends"]]
    for named, shape in itertools.product(listed, group["shapes"]):
        backend, variant = named["name"], named.get("variant", "")
        check_name("backend", backend, BACKENDS)
        quantized = BACKENDS[backend].quantized
        parts = ["layer", backend, variant, "" if device == "cpu" else device, "{rows}x{inputs}x{outputs}".format(**shape)]
        parts.append(_bits_name(**bits) if quantized else "")
        yield LayerSpec(
            run_id="_".join(part for part in parts if part),
            backend=backend,
            backend_options=named.get("options", {}),
            device=device,
            **shape,
            **(bits if quantized else {}),
            **{key: section[key] for key in ("repeats", "warmup", "seed")},
        )


def _group_blocks(section: dict, group: dict) -> Iterator[BlockSpec]:
    """One measurement for each number of tokens of a group, with all backends of the group in it."""
    common = {key: section[key] for key in ("model", "share_inputs", "repeats", "warmup", "seed")}
    common |= {key: group[key] for key in ("model", "share_inputs", "repeats", "warmup", "device") if key in group}
    architecture = architecture_of(common["model"])
    names = group.get("layers", list(architecture.layers))
    for name in names:
        check_name(f"layer of {architecture.name}", name, architecture.layers)
    bits = _bit_fields(group.get("bits", section["bits"]))
    # The shapes themselves go into the spec: a result is that of its shapes, whatever file they were read from.
    common |= bits | {"blocks": architecture.blocks, "layers": {name: architecture.layers[name] for name in names}}
    common["backends"] = [{"name": b} if isinstance(b, str) else b for b in group["backends"]]
    listed = list(dict.fromkeys(b["name"] for b in common["backends"]))
    backends = "-".join([name for name in listed if name not in PLAINTEXT] or listed)
    device, joint = common.get("device", "cpu"), "joint" if common["share_inputs"] else ""
    for tokens in group["tokens"]:
        parts = ["block", common["model"].strip("./~"), group.get("variant", ""), backends]
        parts += ["" if device == "cpu" else device, f"{tokens}-tokens", joint]
        yield BlockSpec.from_dict(common | {"run_id": _joined([*parts, _bits_name(**bits)]), "tokens": tokens})
