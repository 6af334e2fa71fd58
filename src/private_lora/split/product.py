"""One frozen product at a backend: quantize, encrypt, multiply, decrypt, dequantize."""

from __future__ import annotations

import numpy as np

from private_lora.backends.clear.arithmetic import ExactProduct
from private_lora.core.errors import UserError
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.split.quantizers import dequantize_product, quantize_activations, value_range
from private_lora.split.session import Session
from private_lora.split.stopwatch import Stopwatch
from private_lora.split.weights import ProductWeight


class RemoteProduct:
    """x W for one weight (K x D) and one direction, through a backend.

    original: the float32 weight, which is kept only for the calibration of static ranges. Raises UserError, naming the product,
    if the backend refuses the weight.
    """

    def __init__(self, session: Session, original: np.ndarray, weight: ProductWeight):
        self.session, self.name = session, weight.name
        self.calibrated_range: tuple[float, float] | None = None
        q = session.quantization
        self.terms = weight.terms
        try:
            self.plan = session.backend.plan(weight.values, q.activation_bits)
        except ValueError as error:
            raise UserError(f"layer {weight.name}: {error}") from None
        self.client = session.backend.client(self.plan, session.keys)
        session.keys = self.client.keys  # one key for all layers of a run: GLWE's packing key is 134 MB
        self.client.prepare(weight.values)
        self.server = session.place.server(session.backend, self.plan, weight)
        measures_noise = self.terms is not None and not self.plan.exact and session.place.is_local
        self._truth = ExactProduct(weight.values, q.activation_bits) if measures_noise else None
        self._weight = np.ascontiguousarray(original) if ACTIVATION_QUANTIZERS[q.activation_quantizer].calibrated else None
        session.products.append(self)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 T x D from float32 T x K."""
        if self.session.calibrating:
            return self._calibrate(x)
        if self.terms is None:
            return self._remote(x)
        q, timings = self.session.quantization, self.session.timings
        watch = Stopwatch()
        rows = quantize_activations(x, q.activation_bits, q.activation_quantizer, q.constant_rows, self.calibrated_range)
        quantize_s = watch.lap()
        product = self._remote(rows.values)
        watch.lap()  # it is timed by itself
        y = dequantize_product(product, rows, self.terms)
        timings.quantize_s += quantize_s + watch.lap()
        if self._truth is not None:
            self.session.noise.add(self._noise(product - self._truth(rows.values)))
            timings.check_s += watch.lap()
        return y

    def _noise(self, error: np.ndarray) -> np.ndarray:
        """Errors of an answer without what wrapped around, which is counted, where a plan lets sums wrap around."""
        if "overflow" not in self.plan.parameters:
            return error
        return self.session.overflow.add(self.name, error, self.plan.parameters["result_bits"])

    def _remote(self, x: np.ndarray) -> np.ndarray:
        """The backend's answer, its operations timed and its ciphertexts measured."""
        timings, counters = self.session.timings, self.client.counters
        product = self.session.place.product(self.client, self.server, x)
        counters.upload_ciphertext_bytes += product.upload_bytes
        counters.download_ciphertext_bytes += product.download_bytes
        timings.encrypt_s += product.encrypt_s
        timings.matmul_s += product.matmul_s
        timings.decrypt_s += product.decrypt_s
        timings.wait_s += product.wait_s
        timings.verify_s += product.verify_s
        timings.offline_s += product.offline.encrypt_s + product.offline.decrypt_s
        timings.remote_rows += len(x)
        return product.y

    def _calibrate(self, x: np.ndarray) -> np.ndarray:
        """The float product, with the range of x remembered."""
        low, high = value_range(x)
        if self.calibrated_range is not None:
            low, high = min(low, self.calibrated_range[0]), max(high, self.calibrated_range[1])
        self.calibrated_range = (low, high)
        return x @ self._weight
