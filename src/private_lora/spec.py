"""What can change a number, as plain data: one spec per run, written into its sidecar and hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from private_lora.errors import UserError
from private_lora.registry import (
    ACTIVATION_QUANTIZERS,
    ARCHITECTURES,
    BACKENDS,
    BUILT_IN_MODELS,
    DATASETS,
    MAX_BITS,
    MIN_BITS,
    PLAINTEXT,
    PLAINTEXT_BITS,
    WEIGHT_QUANTIZERS,
    check_name,
)

# Layers of a block that have the same input, as `products.SHARED_INPUTS` has them in a model.
SHARED_LAYERS = (("q", "k", "v"), ("gate", "up"))


class Spec:
    """JSON in and out, unknown keys refused."""

    @classmethod
    def from_dict(cls, values: dict):
        """The spec; raises UserError on an unknown or missing key or a value of the wrong type."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise UserError(f"unknown key {unknown[0]!r} in the run's spec: known are {', '.join(fields)}")
        required = [n for n, f in fields.items() if _is_required(f) and n not in values]
        if required:
            raise UserError(f"key {required[0]!r} is missing in the run's spec")
        spec = cls(**values)
        spec.check()
        return spec

    @classmethod
    def from_json(cls, text: str):
        """The spec in a JSON object; raises UserError when the text is not one."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"the spec is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError("the spec must be a JSON object")
        return cls.from_dict(values)

    def to_dict(self) -> dict:
        """All fields, defaults included."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _check_integer(name: str, value, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UserError(f"{name} must be a whole number of at least {low}, not {value!r}")


def _check_number(name: str, value, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < float("inf"):
        raise UserError(f"{name} must be a number of at least {low}, not {value!r}")


def _check_boolean(name: str, value) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false, not {value!r}")


def _check_keys(name: str, mapping, keys: tuple[str, ...]) -> None:
    if not isinstance(mapping, dict) or set(mapping) != set(keys):
        raise UserError(f"{name} must have the keys {', '.join(keys)}, and no others")


def check_bits(name: str, value) -> None:
    """Nothing if `value` is a bit-width that the quantizers support; raises UserError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not MIN_BITS <= value <= MAX_BITS:
        raise UserError(f"{name} must be a whole number from {MIN_BITS} to {MAX_BITS}, not {value!r}")


@dataclass(frozen=True)
class RunSpec(Spec):
    """One fine-tuning run. `weight_bits` and `activation_bits` hold forward and backward alike.

    share_inputs: q, k, v are one remote call, and gate, up another; a backend of kind `trainer` has layers of its own.
    recompute: a block's activations are computed again in backward instead of kept. blocks: only the model's first so many.
    """

    run_id: str
    model: str
    data: str
    backend: str
    stage: str = "manual"
    variant: str = ""
    revision: str | None = None
    weights: str = "pretrained"
    data_options: dict = field(default_factory=dict)
    device: str = "cpu"
    backend_options: dict = field(default_factory=dict)
    activation_quantizer: str = "dynamic_per_token"
    weight_quantizer: str = "static_per_channel"
    activation_bits: int | None = None
    weight_bits: int | None = None
    constant_rows: str = "exact"
    share_inputs: bool = True
    recompute: bool = False
    blocks: int | None = None
    lora_rank: int = 8
    lora_alpha: float = 32
    lora_dropout: float = 0.01
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 10
    max_grad_norm: float = 1.0
    lr_schedule: str = "linear"
    steps: int = 100
    batch_size: int = 8
    sequence_length: int = 96
    seed: int = 0
    train_examples: int = 2000
    eval_examples: int = 64
    eval_every: int = 50
    generate_examples: int = 0
    count_padding: bool = False
    checkpoint_every: int = 20

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        check_name("backend", self.backend, BACKENDS)
        check_name("dataset", self.data, DATASETS)
        check_name("activation quantizer", self.activation_quantizer, ACTIVATION_QUANTIZERS)
        check_name("weight quantizer", self.weight_quantizer, WEIGHT_QUANTIZERS)
        check_name("constant_rows", self.constant_rows, ("exact", "reference"))
        check_name("lr_schedule", self.lr_schedule, ("linear", "constant"))
        check_name("weights", self.weights, ("pretrained", "random"))
        check_name(f"device for backend {self.backend}", self.device, BACKENDS[self.backend].devices)
        if BACKENDS[self.backend].quantized:
            check_bits("activation_bits", self.activation_bits)
            check_bits("weight_bits", self.weight_bits)
        elif self.activation_bits is not None or self.weight_bits is not None:
            raise UserError(f"backend {self.backend!r} does not quantize: leave out activation_bits and weight_bits")
        for name in ("steps", "batch_size", "lora_rank", "train_examples", "checkpoint_every"):
            _check_integer(name, getattr(self, name), 1)
        _check_integer("sequence_length", self.sequence_length, 2)
        for name in ("seed", "warmup_steps", "eval_examples", "eval_every", "generate_examples"):
            _check_integer(name, getattr(self, name), 0)
        for name in ("lora_alpha", "lora_dropout", "learning_rate", "weight_decay", "max_grad_norm"):
            _check_number(name, getattr(self, name), 0)
        for name in ("share_inputs", "count_padding", "recompute"):
            _check_boolean(name, getattr(self, name))
        self._check_model()

    def _check_model(self) -> None:
        if self.model in ARCHITECTURES and (self.weights != "random" or self.data != "random_tokens"):
            raise UserError(
                f"{self.model} is an architecture without weights and tokenizer: it takes weights: random and "
                "data: random_tokens; for the real model give its directory or hub id"
            )
        if self.data == "random_tokens" and self.generate_examples:
            raise UserError("random_tokens has no problems to answer: set generate_examples to 0")
        if self.blocks is not None:
            _check_integer("blocks", self.blocks, 1)
        if BACKENDS[self.backend].kind == "trainer" and (self.recompute or self.blocks):
            raise UserError(f"backend {self.backend!r} trains by itself: it knows neither recompute nor blocks")


@dataclass(frozen=True)
class LatencySpec(Spec):
    """One latency measurement: an encrypted linear layer of `inputs` x `outputs` on `rows` rows, stage by stage."""

    run_id: str
    backend: str
    rows: int
    inputs: int
    outputs: int
    stage: str = "latency"
    device: str = "cpu"
    backend_options: dict = field(default_factory=dict)
    activation_bits: int | None = None
    weight_bits: int | None = None
    repeats: int = 3
    warmup: int = 1
    seed: int = 0

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        check_name("backend", self.backend, BACKENDS)
        check_name(f"device for backend {self.backend}", self.device, BACKENDS[self.backend].devices)
        if BACKENDS[self.backend].kind != "matmul":
            raise UserError(f"backend {self.backend!r} has no separate linear layer to time")
        if BACKENDS[self.backend].quantized:
            check_bits("activation_bits", self.activation_bits)
            check_bits("weight_bits", self.weight_bits)
        for name in ("rows", "inputs", "outputs", "repeats"):
            _check_integer(name, getattr(self, name), 1)
        for name in ("warmup", "seed"):
            _check_integer(name, getattr(self, name), 0)


@dataclass(frozen=True)
class BlockSpec(Spec):
    """One measurement of all linear layers of a transformer block, forward and backward, on `tokens` rows.

    model, blocks: whose block it is, and how many such blocks that model has. layers: [inputs, outputs] by name.
    backends: mappings with `name`, and `variant` and `options` where given; all are measured in one process.
    share_inputs: q, k, v are one product, and gate, up another, forward and backward.
    """

    run_id: str
    model: str
    blocks: int
    tokens: int
    layers: dict[str, list[int]]
    backends: list[dict]
    activation_bits: int
    weight_bits: int
    stage: str = "block"
    share_inputs: bool = False
    device: str = "cpu"
    repeats: int = 3
    warmup: int = 1
    seed: int = 0

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        for name in ("tokens", "blocks", "repeats"):
            _check_integer(name, getattr(self, name), 1)
        for name in ("warmup", "seed"):
            _check_integer(name, getattr(self, name), 0)
        for name in ("activation_bits", "weight_bits"):
            check_bits(name, getattr(self, name))
        _check_boolean("share_inputs", self.share_inputs)
        check_name("device", self.device, ("cpu", "cuda"))
        for backend in self.backends:
            self._check_backend(backend["name"])
        names = [(backend["name"], backend.get("variant", "")) for backend in self.backends]
        for name, variant in names:
            if names.count((name, variant)) > 1:
                raise UserError(f"backend {name!r} is listed twice: give one of the two a variant of its own")
        self._check_layers()

    def _check_backend(self, name: str) -> None:
        matmul = {key: entry for key, entry in BACKENDS.items() if entry.kind == "matmul"}
        check_name("backend", name, (*PLAINTEXT, *matmul))
        if name in matmul:
            check_name(f"device for backend {name}", self.device, matmul[name].devices)
        most = PLAINTEXT_BITS.get(name, MAX_BITS)
        if max(self.activation_bits, self.weight_bits) > most:
            raise UserError(f"{name} multiplies integers of at most {most} bits: take fewer bits, or leave it out")

    def _check_layers(self) -> None:
        if not self.backends or not self.layers:
            raise UserError("a block needs at least one backend and one layer")
        for name, shape in self.layers.items():
            if len(shape) != 2 or "+" in name or "," in name:
                raise UserError(f"layer {name!r} must be [inputs, outputs], under a name without commas and plus signs")
            for size, value in zip(("inputs", "outputs"), shape, strict=True):
                _check_integer(f"{size} of layer {name}", value, 1)
        for members in self.groups():
            if len({self.layers[name][0] for name in members}) > 1:
                raise UserError(f"layers {', '.join(members)} cannot share an input: they have different numbers of inputs")

    def groups(self) -> list[tuple[str, ...]]:
        """Names of the layers that are one product, for each product."""
        shared = [tuple(n for n in names if n in self.layers) for names in SHARED_LAYERS if self.share_inputs]
        return [names for names in shared if names] + [(n,) for n in self.layers if not any(n in names for names in shared)]

    def products(self) -> dict[tuple[int, int], list[tuple[str, str]]]:
        """(layer, direction) of all products by their (inputs, outputs); layers that are one product are joined by `+`."""
        found: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for members in self.groups():
            inputs, outputs = self.layers[members[0]][0], sum(self.layers[name][1] for name in members)
            found.setdefault((inputs, outputs), []).append(("+".join(members), "forward"))
            found.setdefault((outputs, inputs), []).append(("+".join(members), "backward"))
        return dict(sorted(found.items()))


NETWORK = ("name", "bandwidth_bits_per_s", "latency_s")
PRICES = ("worker_per_hour", "client_per_hour", "traffic_per_gb")


@dataclass(frozen=True)
class CostSpec(Spec):
    """What the cost model predicts: steps of `models` at `tokens` over `networks`, with each number of `workers`.

    networks: mappings of name, bandwidth_bits_per_s and latency_s (there and back). prices: currency, PRICES and note.
    """

    models: list[str]
    tokens: list[int]
    networks: list[dict]
    workers: list[int]
    prices: dict

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on an unknown model or a quantity that cannot be."""
        for model in self.models:
            check_name("architecture", model, (*ARCHITECTURES, *BUILT_IN_MODELS))
        for name in ("tokens", "workers"):
            for value in getattr(self, name):
                _check_integer(name, value, 1)
        for i, network in enumerate(self.networks):
            _check_keys(f"networks[{i}]", network, NETWORK)
            _check_number(f"networks[{i}].bandwidth_bits_per_s", network["bandwidth_bits_per_s"], 1)
            _check_number(f"networks[{i}].latency_s", network["latency_s"], 0)
            if network["name"] in [other["name"] for other in self.networks[:i]]:
                raise UserError(f"network {network['name']!r} is listed twice: give each a name of its own")
        _check_keys("prices", self.prices, (*PRICES, "currency", "note"))
        for name in PRICES:
            _check_number(f"prices.{name}", self.prices[name], 0)
