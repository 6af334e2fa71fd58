"""One frozen product at a backend: quantize, encrypt, multiply, decrypt, dequantize."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from private_lora.backends.arithmetic import ExactProduct
from private_lora.backends.timed import timed_product
from private_lora.errors import UserError
from private_lora.quantization import (
    concatenate_outputs,
    dequantize_product,
    quantize_activations,
    quantize_weight,
    value_range,
)
from private_lora.session import Session


class RemoteProduct:
    """x W for one weight (K x D) and one direction, through a backend.

    widths: outputs of the matrices that stand side by side in W, each quantized by itself; None: W is one matrix. Raises
    UserError, naming the product, if the backend refuses the weight.
    """

    def __init__(self, session: Session, weight: np.ndarray, name: str, widths: Sequence[int] | None = None):
        self.session, self.name = session, name
        self.calibrated_range: tuple[float, float] | None = None
        q = session.quantization
        if q.weight_bits is None:
            self._terms, integers = None, weight
        else:
            parts = np.split(weight, np.cumsum(widths)[:-1], axis=1) if widths else [weight]
            quantized = concatenate_outputs(
                [quantize_weight(part, q.weight_bits, q.weight_quantizer, q.constant_rows) for part in parts]
            )
            self._terms, integers = quantized.terms, quantized.values
        try:
            self.plan = session.backend.plan(integers, q.activation_bits)
        except ValueError as error:
            raise UserError(f"layer {name}: {error}") from None
        self.client = session.backend.client(self.plan, session.keys)
        session.keys = self.client.keys  # one key for all layers of a run: GLWE's packing key is 134 MB
        self.server = session.backend.server(self.plan, integers)
        measures_noise = self._terms is not None and not self.plan.exact
        self._truth = ExactProduct(integers, q.activation_bits) if measures_noise else None
        self._weight = weight if q.activation_quantizer == "static_per_tensor" else None
        session.products.append(self)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 T x D from float32 T x K."""
        if self.session.calibrating:
            return self._calibrate(x)
        if self._terms is None:
            return self._remote(x)
        q, stages = self.session.quantization, self.session.stages
        start = time.perf_counter()
        rows = quantize_activations(x, q.activation_bits, q.activation_quantizer, q.constant_rows, self.calibrated_range)
        quantized_at = time.perf_counter()
        product = self._remote(rows.values)
        decrypted_at = time.perf_counter()
        y = dequantize_product(product, rows, self._terms)
        stages.quantize_s += quantized_at - start + time.perf_counter() - decrypted_at
        if self._truth is not None:
            start = time.perf_counter()
            self.session.noise.add(product - self._truth(rows.values))
            stages.check_s += time.perf_counter() - start
        return y

    def _remote(self, x: np.ndarray) -> np.ndarray:
        """The backend's answer, its stages timed and its ciphertexts measured."""
        stages, counters = self.session.stages, self.client.counters
        product = timed_product(self.client, self.server, x)
        counters.upload_ciphertext_bytes += product.upload_bytes
        counters.download_ciphertext_bytes += product.download_bytes
        stages.encrypt_s += product.encrypt_s
        stages.matmul_s += product.matmul_s
        stages.decrypt_s += product.decrypt_s
        stages.remote_rows += len(x)
        return product.y

    def _calibrate(self, x: np.ndarray) -> np.ndarray:
        """The float product, with the range of x remembered."""
        low, high = value_range(x)
        if self.calibrated_range is not None:
            low, high = min(low, self.calibrated_range[0]), max(high, self.calibrated_range[1])
        self.calibrated_range = (low, high)
        return x @ self._weight
