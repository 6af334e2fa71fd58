"""Compiles the kernels of quantization, the packed scheme and the checks of its answers; numba keeps them beside the source.

Small products are taken the way that runs take large ones: kernels are compiled for types, not for sizes.
"""

from __future__ import annotations

import time

import numba
import numpy as np

from private_lora.backends import load
from private_lora.network.client.freivalds import AnswerCheck
from private_lora.split.quantizers import dequantize_product, quantize_activations, quantize_weight

ROWS, INPUTS, OUTPUTS = 8, 32, 8
BITS = (8, 16)  # integers of one byte, and of two
QUANTIZERS = (("dynamic_per_token", "static_per_channel"), ("symmetric_per_token", "symmetric_per_channel"))


def compile_kernels() -> float:
    """Seconds that it took: a moment, where all is compiled already."""
    start = time.perf_counter()
    numba.set_num_threads(1)  # two threads that ask at once would both compile
    generator = np.random.Generator(np.random.PCG64(0))
    floats = generator.standard_normal((ROWS, INPUTS), dtype=np.float32)
    weights = generator.standard_normal((INPUTS, OUTPUTS), dtype=np.float32)
    for bits in BITS:
        for activations, weight in QUANTIZERS:
            x, w = quantize_activations(floats, bits, activations), quantize_weight(weights, bits, weight)
            dequantize_product(x.values.astype(np.int64) @ w.values, x, w.terms)
        for name in ("packed", "packed_approx"):
            for mask in ("session", "fresh"):
                _product(load(name, mask=mask), x.values, w.values, bits)
    return time.perf_counter() - start


def _product(backend, x: np.ndarray, weight: np.ndarray, bits: int) -> None:
    """A product in process, and one whose answer comes as bytes and is checked, as over a network."""
    plan = backend.plan(weight, bits)
    client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
    client.decrypt(server.matmul(client.encrypt(x)))
    answer = server.matmul(backend.ciphertext_from_bytes(client.encrypt(x).to_bytes()))
    y = client.decrypt(backend.ciphertext_from_bytes(answer.to_bytes()))
    AnswerCheck(weight, plan.bound).wrong_rows(x, y)
