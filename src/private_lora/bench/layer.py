"""Latency of one encrypted linear layer, operation by operation, with warm-up and repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from private_lora.backends import load
from private_lora.core.memory import peak_memory_bytes
from private_lora.results.provenance import Start, machine, write_sidecar
from private_lora.results.recorder import Recorder
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS
from private_lora.specs.layer import LayerSpec
from private_lora.split.session import NoiseMeter
from private_lora.split.stopwatch import Stopwatch, timed_product


def layer(spec: LayerSpec, out: Path) -> None:
    """Write the rows of one layer's operations (`out`) and a sidecar beside it.

    Random integers of the spec's bits fill rows and weight; key generation and weight preparation are timed apart from the
    operations of a product. Raises ValueError if the plan could overflow, RuntimeError if an answer is wrong.
    """
    started = Start()
    x, weight = _operands(spec)
    backend = load(spec.backend, device=spec.device, **spec.backend_options)
    plan = backend.plan(weight, spec.activation_bits)
    watch = Stopwatch()
    client = backend.client(plan).prepare(weight)
    setup = {"key_generation_time_s": watch.lap()}
    server = backend.server(plan, weight)
    setup["weight_setup_time_s"] = watch.lap()
    recorder = Recorder(_columns(spec))
    for metric, value in setup.items():
        recorder.add(metric, value, "s", phase="setup")
    noise = NoiseMeter()
    for repeat in range(-spec.warmup, spec.repeats):
        times, error = _one_product(client, server, x, weight)
        if repeat < 0:
            continue
        noise.add(error)
        for metric, (value, unit) in times.items():
            recorder.add(metric, value, unit, phase="forward", repeat=repeat, sample=repeat)
    _check_error(spec, plan, noise)
    material = client.public_material()
    recorder.add("public_material_bytes", len(material.to_bytes()) if material else 0, "B", phase="run")
    recorder.add("encrypted_matmuls", server.counters.encrypted_products, "", phase="run")
    recorder.add("security_bits", plan.security_bits, "bits", phase="run")
    recorder.add("accumulator_noise_std", noise.std, "units", phase="run")
    recorder.add("accumulator_noise_samples", noise.count, "", phase="run")
    recorder.add("peak_memory_bytes", peak_memory_bytes(), "B", phase="run")
    recorder.add_shares(started.cpu_shares())
    write_sidecar(
        out.parent / "sidecar.json",
        {
            "spec": spec.to_dict(),
            "environment": started.environment(),
            "torch_threads": torch.get_num_threads(),
            "parameters": plan.parameters,
            "backend": backend.report(),
        },
    )
    recorder.write(out)


def _columns(spec: LayerSpec) -> dict:
    return {
        "run_id": spec.run_id,
        "stage": spec.stage,
        "backend": spec.backend,
        "device": spec.device,
        "machine": machine(spec.device),
        "activation_bits": spec.activation_bits,
        "weight_bits": spec.weight_bits,
        "options": options_text(spec.backend_options),
        "tokens": spec.rows,
        "inputs": spec.inputs,
        "outputs": spec.outputs,
        "seed": spec.seed,
        "basis": BACKENDS[spec.backend].basis,
    }


def _operands(spec: LayerSpec) -> tuple[np.ndarray, np.ndarray]:
    """Rows and weight: integers of the spec's bits, or normal floats for a backend that does not quantize."""
    generator = np.random.Generator(np.random.PCG64(spec.seed))
    shapes = (spec.rows, spec.inputs), (spec.inputs, spec.outputs)
    if not BACKENDS[spec.backend].quantized:
        x, weight = (generator.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return x, weight
    operands = []
    for shape, bits in zip(shapes, (spec.activation_bits, spec.weight_bits), strict=True):
        half = 2 ** (bits - 1)
        operands.append(generator.integers(-half, half, shape).astype(np.int8 if bits <= 8 else np.int16))
    return operands[0], operands[1]


def _one_product(client, server, x: np.ndarray, weight: np.ndarray) -> tuple[dict, np.ndarray]:
    """Stage times and ciphertext bytes of one product, and its error."""
    product = timed_product(client, server, x)
    kind = np.float64 if np.issubdtype(x.dtype, np.floating) else np.int64
    return product.metrics, product.y - x.astype(kind) @ weight.astype(kind)


def _check_error(spec: LayerSpec, plan, noise: NoiseMeter) -> None:
    """Nothing; raises RuntimeError when answers are not what the plan promises: a fast wrong answer is no latency."""
    if BACKENDS[spec.backend].quantized and noise.largest > 8 * plan.noise_std:
        raise RuntimeError(f"answers are off by up to {noise.largest} units, the plan promises a std of {plan.noise_std}")
