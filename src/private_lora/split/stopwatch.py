"""One product through the protocol with its stages timed and its messages measured."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace

import numpy as np

from private_lora.backends.contract import Client, Server


@dataclass(frozen=True)
class TimedProduct:
    """The answer (T x D) of one product, seconds by stage, and bytes of ciphertext: 0 where the messages are in the clear.

    int8_operations: what the server issued, by its own count; 0 from a server that counts none. matmul_s: the server's time;
    wait_s: how long the client waited for it; verify_s: the client's check of the answer.
    """

    y: np.ndarray
    encrypt_s: float
    matmul_s: float
    decrypt_s: float
    upload_bytes: int
    download_bytes: int
    int8_operations: int
    wait_s: float = 0.0
    verify_s: float = 0.0

    @property
    def metrics(self) -> dict[str, tuple[float, str]]:
        """Value and unit of each stage, by the result schema's names; operations only where they were counted."""
        counted = {"int8_operations": (self.int8_operations, "")} if self.int8_operations else {}
        return counted | {
            "encrypt_time_s": (self.encrypt_s, "s"),
            "matmul_time_s": (self.matmul_s, "s"),
            "decrypt_time_s": (self.decrypt_s, "s"),
            "upload_ciphertext_bytes": (self.upload_bytes, "B"),
            "download_ciphertext_bytes": (self.download_bytes, "B"),
        }


def timed_product(client: Client, server: Server, x: np.ndarray) -> TimedProduct:
    """Encrypt, multiply, decrypt; what is no encrypted product by the server's own count has no ciphertext."""
    before = replace(server.counters)
    times = [time.perf_counter()]
    question = client.encrypt(x)
    times.append(time.perf_counter())
    answer = server.matmul(question)
    times.append(time.perf_counter())
    y = client.decrypt(answer)
    times.append(time.perf_counter())
    encrypted = server.counters.encrypted_products > before.encrypted_products
    sizes = (question.byte_count, answer.byte_count) if encrypted else (0, 0)
    operations = server.counters.int8_operations - before.int8_operations
    seconds = [end - start for start, end in itertools.pairwise(times)]
    return TimedProduct(y, *seconds, *sizes, operations, wait_s=seconds[1])
