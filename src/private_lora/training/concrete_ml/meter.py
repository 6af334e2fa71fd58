"""What Concrete ML really did in a run: counters and clocks around its own calls, on either of its paths."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from private_lora.split.session import NoiseMeter


@dataclass
class Meter:
    """Counts and seconds of one run; everything is 0 until Concrete ML calls what is metered.

    glwe_calls, circuit_calls: remote layers computed by the GLWE executor, or by a quantized module and its
    circuit, clear or encrypted. encrypted_products: server-side products on ciphertexts. wrong_outputs:
    integers decrypted from circuits that differ from Concrete ML's own clear result for the same input, out
    of checked_outputs. noise: of all integers that the GLWE executor decrypted, against the int64 product of what
    it encrypted and of the weights that it multiplied by.
    """

    glwe_calls: int = 0
    circuit_calls: int = 0
    remote_rows: int = 0
    encrypted_products: int = 0
    upload_ciphertext_bytes: int = 0
    download_ciphertext_bytes: int = 0
    encrypt_s: float = 0.0
    matmul_s: float = 0.0
    decrypt_s: float = 0.0
    wrong_outputs: int = 0
    checked_outputs: int = 0
    noise: NoiseMeter = field(default_factory=NoiseMeter)

    def timed(self, stage: str, function, *arguments, **named):
        """The function's result; its seconds go to `stage` (`encrypt_s`, `matmul_s` or `decrypt_s`)."""
        start = time.perf_counter()
        result = function(*arguments, **named)
        setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)
        return result

    @property
    def path(self) -> str:
        """`glwe` or `circuit`, whichever was called; raises RuntimeError if that is not one of the two."""
        calls = {"glwe": self.glwe_calls, "circuit": self.circuit_calls}
        used = [name for name, count in calls.items() if count]
        if len(used) != 1:
            raise RuntimeError(f"Concrete ML should have used one of its two paths; calls counted: {calls}")
        return used[0]

    def check_encrypted(self) -> None:
        """Nothing; raises RuntimeError unless every call of a remote layer multiplied a ciphertext at least once."""
        calls = self.glwe_calls + self.circuit_calls
        if not calls or self.encrypted_products < calls:
            raise RuntimeError(
                f"Concrete ML was to execute under encryption: {calls} calls of remote layers multiplied "
                f"{self.encrypted_products} ciphertexts"
            )


def install(hybrid_model, meter: Meter) -> None:
    """Put the meter around the layers of a compiled `HybridFHEModel`; what they compute stays its own."""
    executor = hybrid_model.executor
    if executor is not None:
        executor.forward = _counted(executor.forward, meter, "glwe_calls")
        executor.fhext = MeteredExtension(executor.fhext, meter)
        return
    for module in hybrid_model.private_q_modules.values():
        module.forward = _counted(module.forward, meter, "circuit_calls")
        module.fhe_circuit = MeteredCircuit(module, meter)


def _counted(forward, meter: Meter, counter: str):
    def counted_forward(x, *arguments, **named):
        setattr(meter, counter, getattr(meter, counter) + 1)
        meter.remote_rows += math.prod(x.shape[:-1])
        return forward(x, *arguments, **named)

    return counted_forward


class MeteredCircuit:
    """A layer's compiled Concrete circuit, metered; stands where Concrete ML keeps the circuit."""

    def __init__(self, quantized_module, meter: Meter):
        self._module, self._circuit, self._meter = quantized_module, quantized_module.fhe_circuit, meter

    def __getattr__(self, name):
        return getattr(self._circuit, name)

    def encrypt_run_decrypt(self, x: np.ndarray) -> np.ndarray:
        """Decrypted integers of one example (1 x T x D) by the circuit's own three calls; checked."""
        meter, circuit = self._meter, self._circuit
        question = meter.timed("encrypt_s", circuit.encrypt, x)
        answer = meter.timed("matmul_s", circuit.run, question)
        integers = meter.timed("decrypt_s", circuit.decrypt, answer)
        meter.encrypted_products += 1
        meter.upload_ciphertext_bytes += len(question.serialize())
        meter.download_ciphertext_bytes += len(answer.serialize())
        clear = self._module.quantized_forward(x, fhe="disable")
        meter.wrong_outputs += int((clear != integers).sum())
        meter.checked_outputs += clear.size
        return integers


class MeteredExtension:
    """`concrete_ml_extensions` as the GLWE executor sees it, metered, and on the CPU.

    The extension's own `create_private_key` and `matrix_multiplication` take a GPU whenever they find one; a
    run labelled `cpu` must not.
    """

    def __init__(self, extension, meter: Meter):
        self._extension, self._meter = extension, meter
        self._rows = self._product = None

    def __getattr__(self, name):
        return getattr(self._extension, name)

    def create_private_key(self, *arguments, **named):
        """A secret key and its compression key, on the CPU."""
        return self._extension.cpu_create_private_key(*arguments, **named)

    def encrypt_matrix(self, **named):
        """Encrypted rows (`data`)."""
        question = self._meter.timed("encrypt_s", self._extension.encrypt_matrix, **named)
        self._rows = named["data"].astype(np.int64)
        self._meter.upload_ciphertext_bytes += len(question.serialize())
        return question

    def matrix_multiplication(self, **named):
        """Encrypted rows times a clear matrix (`data`, signed integers as uint64), on the CPU."""
        answer = self._meter.timed("matmul_s", self._extension.cpu_matrix_multiplication, **named)
        self._meter.encrypted_products += 1
        self._meter.download_ciphertext_bytes += len(answer.serialize())
        self._product = self._rows @ named["data"].astype(np.int64)
        return answer

    def decrypt_matrix(self, *arguments):
        """Decrypted rows; how far they are from the exact product is noted."""
        integers = self._meter.timed("decrypt_s", self._extension.decrypt_matrix, *arguments)
        self._meter.noise.add(integers.astype(np.int64) - self._product)
        return integers
