"""Sessions, products and inputs for tests of split layers."""

from __future__ import annotations

import numpy as np
import torch

from private_lora.backends import load
from private_lora.specs.backends import BACKENDS
from private_lora.specs.quantization import Quantization
from private_lora.split.product import RemoteProduct
from private_lora.split.session import Session
from private_lora.split.weights import product_weight

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]


QUANTIZED = [name for name in MATMUL if BACKENDS[name].quantized]


PAIRS = [
    ("dynamic_per_token", "static_per_channel"),
    ("dynamic_per_tensor", "static_per_tensor"),
    ("static_per_tensor", "static_per_tensor"),
    ("symmetric_per_token", "symmetric_per_channel"),
]


def session_of(name, pair=PAIRS[0], bits=8, constant_rows="exact"):
    quantized = BACKENDS[name].quantized
    quantization = Quantization(*pair, bits if quantized else None, bits if quantized else None, constant_rows)
    return Session(load(name), quantization)


def remote_product(session, weight):
    return RemoteProduct(session, weight, product_weight(weight, "layer", session.quantization))


def random_rows(seed, rows, columns):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def random_input(seed, inputs=24, requires_grad=False):
    x = torch.from_numpy(random_rows(seed, 6, inputs)).reshape(2, 3, inputs)
    x[0, 1] = 0
    return x.requires_grad_(requires_grad)
