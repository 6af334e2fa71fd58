"""Latency of all linear layers of a transformer block, every backend in one process, so that ratios are of one run.

In every pass over a shape the backends take their turns in an order drawn anew, so that none always follows the same other one
with its cache, its clock and its heat. Passes of the warm-up come first and are not timed.

Rows and weights are normal random floats under the project's own quantizers: the parameters of an encrypted product follow from
the norms of the weight's columns, and uniform integers would have larger ones than any trained weight. Products of the same
(inputs, outputs) share a measurement, whatever layer and direction they belong to; the rows name each of them, so that sums
over rows are sums over the block.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numba
import numpy as np
import torch

from private_lora.backends import load
from private_lora.backends.contract import Backend, accumulator_bound
from private_lora.bench.ceilings import copy_ceiling, int8_ceiling
from private_lora.bench.plaintext import FLOAT32_ERROR, TYPES, PlaintextProduct
from private_lora.core.errors import UserError
from private_lora.core.memory import peak_memory_bytes
from private_lora.results.provenance import Start, machine, write_sidecar
from private_lora.results.recorder import Recorder
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS
from private_lora.specs.block import BlockSpec
from private_lora.split.quantizers import quantize_activations, quantize_weight
from private_lora.split.stopwatch import Stopwatch, timed_product

log = logging.getLogger(__name__)
QUANTIZERS = {"activation_quantizer": "dynamic_per_token", "weight_quantizer": "static_per_channel"}
OPERANDS = (
    "Rows and weights: normal random floats, quantized dynamically per token and statically per channel. "
    "The plaintext products multiply the same integers as float32, float64, bf16 or int8; float32 may round its sums, and bf16 "
    "rounds every answer to 8 significant bits. int8 on a CPU without VNNI or AMX: in float32 or float64, exactly. Products of "
    "one shape share a measurement."
)
CHECKED_AT_ONCE = 512  # rows


def block(spec: BlockSpec, out: Path) -> None:
    """Write the rows of all layers, directions and backends (`out`) and a sidecar beside it; progress is logged.

    Every backend's first answer at each shape is compared with the exact integer product. Raises RuntimeError on a wrong one,
    and nothing is written then; UserError when there is no such device, or a backend refuses a layer.
    """
    started = Start()
    check_device(spec)
    recorder = Recorder(_columns(spec))
    tallies = [Tally(backend, _loaded(backend, spec.device)) for backend in spec.backends]
    samples, orders = itertools.count(), {}
    for shape, products in spec.products().items():
        operands = Operands.draw(spec, *shape)
        contenders = [(tally, _contender(spec, tally, operands)) for tally in tallies]
        orders["{}x{}".format(*shape)] = turns = []
        for index in range(spec.warmup + spec.repeats):
            watch = Stopwatch()
            drawn = _in_random_order(contenders)
            turns.append([tally.name for tally, _ in drawn])
            for tally, contender in drawn:
                times, y = contender()
                if index == 0:
                    tally.check(y, operands)
                del y
                if index >= spec.warmup:
                    of = {"repeat": index - spec.warmup, "sample": next(samples)}
                    _record(recorder, tally, spec.tokens, shape, products, times, of)
            if index == 0:
                operands.forget_truth()
            name = f"repeat {index - spec.warmup + 1} of {spec.repeats}" if index >= spec.warmup else "warm-up"
            log.info("%dx%dx%d: %s, %.1f s", spec.tokens, *shape, name, watch.lap())
    _record_run(recorder, spec, tallies)
    recorder.add_shares(started.cpu_shares())
    _write_sidecar(spec, started, tallies, orders, out)
    recorder.write(out)


def _in_random_order(contenders: list) -> list:
    """The same in an order that the operating system's randomness decides, and no seed: it is in the sidecar."""
    return random.SystemRandom().sample(contenders, len(contenders))


def check_device(spec: BlockSpec) -> None:
    """Nothing; raises UserError when a GPU is asked for and there is none."""
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{spec.run_id}: it asks for device 'cuda' and this machine has no usable CUDA GPU: run it where there is one, or "
            "on device cpu"
        )


def _loaded(backend: dict, device: str) -> Backend | None:
    """The backend at its options; None for a plaintext product."""
    if backend["name"] in TYPES:
        return None
    return load(backend["name"], device=device, **backend.get("options", {}))


@dataclass
class Operands:
    """Integers of one shape: rows x (T x K), weight (K x D). bound: largest possible |x W|."""

    x: np.ndarray
    weight: np.ndarray
    bound: int
    _truth: np.ndarray | None = None

    @classmethod
    def draw(cls, spec: BlockSpec, inputs: int, outputs: int) -> Operands:
        """The operands that the spec's seed gives this shape, whatever else is measured."""
        generator = np.random.Generator(np.random.PCG64([spec.seed, spec.tokens, inputs, outputs]))
        floats = generator.standard_normal((inputs, outputs), dtype=np.float32)
        weight = quantize_weight(floats, spec.weight_bits, QUANTIZERS["weight_quantizer"]).values
        floats = generator.standard_normal((spec.tokens, inputs), dtype=np.float32)
        x = quantize_activations(floats, spec.activation_bits, QUANTIZERS["activation_quantizer"]).values
        return cls(x, weight, accumulator_bound(weight, spec.activation_bits))

    def truth(self) -> np.ndarray:
        """x W as float64, which holds every sum of integers below 2^53 exactly."""
        if self._truth is None:
            self._truth = (torch.from_numpy(self.x).double() @ torch.from_numpy(self.weight).double()).numpy()
        return self._truth

    def forget_truth(self) -> None:
        """Free the memory of `truth`."""
        self._truth = None


@dataclass
class Tally:
    """What one backend of the spec did over all shapes.

    loaded: None for a plaintext product. allowed: largest error of an answer at the present shape, and allowed_share what comes
    on top in units of the largest answer. error: largest distance of an answer from the integers. parameters: of the scheme, by
    `inputs x outputs`.
    """

    backend: dict
    loaded: Backend | None
    keys: object = None
    allowed: float = 0.0
    allowed_share: float = 0.0
    checked: int = 0
    mismatches: int = 0
    error: float = 0.0
    security_bits: int = 0
    public_material_bytes: int = 0
    encrypted_products: int = 0
    parameters: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name and variant, for messages."""
        return " ".join(part for part in (self.backend["name"], self.backend.get("variant", "")) if part)

    def check(self, y: np.ndarray, operands: Operands) -> None:
        """Compare an answer with the integers, in parts, because it may fill half a gigabyte; RuntimeError if it is wrong."""
        truth, largest, mismatches = operands.truth(), 0.0, 0
        allowed = self.allowed + self.allowed_share * max(truth.max(), -truth.min())
        for top in range(0, len(truth), CHECKED_AT_ONCE):
            difference = y[top : top + CHECKED_AT_ONCE] - truth[top : top + CHECKED_AT_ONCE]
            largest = max(largest, float(np.abs(difference).max()))
            mismatches += np.count_nonzero(difference)
        if largest > allowed:
            promised = f"errors of at most {allowed:.4g}" if allowed else "exact answers"
            raise RuntimeError(
                f"{self.name}: {mismatches} of {truth.size} answers differ from the integers, by up to {largest:g}; "
                f"promised were {promised}"
            )
        self.checked, self.mismatches = self.checked + truth.size, self.mismatches + mismatches
        self.error = max(self.error, largest)


def _contender(spec: BlockSpec, tally: Tally, operands: Operands) -> Callable[[], tuple[dict, np.ndarray]]:
    """A call that makes one product and returns its times and the answer (T x D)."""
    name, backend = tally.backend["name"], tally.loaded
    if backend is None:
        # Rounding is no error of a scheme: allowed up to the type's own, counted as mismatches.
        tally.allowed, tally.allowed_share = TYPES[name].sum_error * operands.bound, TYPES[name].answer_error
        return PlaintextProduct(name, operands.x, operands.weight, spec.device)
    try:
        plan = backend.plan(operands.weight, spec.activation_bits)
    except ValueError as error:
        raise UserError(f"layer of {operands.weight.shape[0]} inputs and {operands.weight.shape[1]} outputs: {error}") from None
    client = backend.client(plan, tally.keys).prepare(operands.weight)
    tally.keys, tally.allowed = client.keys, 0.0 if plan.exact else 8 * plan.noise_std
    if not plan.exact and not BACKENDS[name].quantized:
        tally.allowed = FLOAT32_ERROR * operands.bound
    tally.security_bits = plan.security_bits
    tally.parameters["{}x{}".format(*operands.weight.shape)] = plan.parameters
    if not tally.public_material_bytes and (material := client.public_material()) is not None:
        tally.public_material_bytes = len(material.to_bytes())
    return partial(_remote, tally, client, backend.server(plan, operands.weight), operands.x)


def _remote(tally: Tally, client, server, x: np.ndarray) -> tuple[dict, np.ndarray]:
    """A product through the protocol: client, server, client."""
    product = timed_product(client, server, x)
    tally.encrypted_products += product.upload_bytes > 0
    return product.metrics, product.y


def _columns(spec: BlockSpec) -> dict:
    """Columns that all rows share; `dataset` says what was multiplied."""
    columns = {"run_id": spec.run_id, "stage": spec.stage, "model": spec.model, "dataset": "random"}
    columns |= {"device": spec.device, "machine": machine(spec.device)}
    columns |= QUANTIZERS | {"activation_bits": spec.activation_bits, "weight_bits": spec.weight_bits}
    return columns | {"seed": spec.seed, "basis": "measured"}


def _of_backend(tally: Tally) -> dict:
    """Columns of one backend; variant and options are what tells it from another of the same name."""
    name, variant = tally.backend["name"], tally.backend.get("variant", "")
    basis = BACKENDS[name].basis if name in BACKENDS else "measured"
    return {"backend": name, "variant": variant, "options": options_text(tally.backend.get("options", {})), "basis": basis}


def _record(recorder, tally: Tally, tokens: int, shape, products, times: dict, of: dict) -> None:
    """One row for each operation on each layer and direction of this shape. of: repeat and sample, which they all share."""
    columns = _of_backend(tally) | of | {"tokens": tokens, "inputs": shape[0], "outputs": shape[1]}
    for layer, phase in products:
        for metric, (value, unit) in times.items():
            recorder.add(metric, value, unit, phase=phase, layer=layer, **columns)


def _record_run(recorder: Recorder, spec: BlockSpec, tallies: list[Tally]) -> None:
    """What was counted once: for each backend, and for the process."""
    for tally in tallies:
        columns = _of_backend(tally) | {"phase": "run"}
        recorder.add("checked_values", tally.checked, "", **columns)
        recorder.add("mismatches", tally.mismatches, "", **columns)
        recorder.add("largest_error", tally.error, "units", **columns)
        recorder.add("security_bits", tally.security_bits, "bits", **columns)
        recorder.add("encrypted_matmuls", tally.encrypted_products, "", **columns)
        recorder.add("public_material_bytes", tally.public_material_bytes, "B", **columns)
    recorder.add("blocks", spec.blocks, "", phase="run")
    recorder.add("torch_threads", torch.get_num_threads(), "", phase="run")
    recorder.add("peak_memory_bytes", peak_memory_bytes(), "B", phase="run")
    recorder.add("ceiling_int8_ops_per_s", int8_ceiling(spec.device), "1/s", phase="run")
    recorder.add("ceiling_copy_bytes_per_s", copy_ceiling(spec.device), "B/s", phase="run")


def _write_sidecar(spec: BlockSpec, started: Start, tallies: list[Tally], orders: dict, out: Path) -> None:
    """orders: by `inputs x outputs` for each pass, warm-up first, the names of the backends in the order of their turns."""
    content = {"spec": spec.to_dict(), "environment": started.environment(), "operands": OPERANDS, "order": orders}
    content |= {"torch_threads": torch.get_num_threads(), "numba_threads": numba.get_num_threads()}
    content |= {"parameters": {tally.name: tally.parameters for tally in tallies if tally.parameters}}
    content |= {"backends": {tally.name: tally.loaded.report() for tally in tallies if tally.loaded is not None}}
    write_sidecar(out.parent / "sidecar.json", content)
