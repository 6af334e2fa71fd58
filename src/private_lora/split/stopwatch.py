"""The stopwatch of a product's operations, and one product through the protocol with them timed and its messages measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from private_lora.backends.contract import Client, Offline, Server


class Stopwatch:
    """Runs from its making on."""

    def __init__(self):
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


@dataclass(frozen=True)
class TimedProduct:
    """The answer (T x D) of one product, seconds by operation, and bytes of ciphertext: 0 where the messages are in the clear.

    int8_operations: what the server issued, by its own count; 0 from a server that counts none. matmul_s: the server's time;
    wait_s: how long the client waited for it; verify_s: the client's check of the answer. offline: what of encrypt_s and
    decrypt_s no data went into. shares: seconds of such work for encrypting and for decrypting that these rows used, made now
    or before.
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
    offline: Offline = field(default_factory=Offline)
    shares: tuple[float, float] = (0.0, 0.0)

    @property
    def metrics(self) -> dict[str, tuple[float, str]]:
        """Value and unit of each operation, by the result schema's names; operations only where they were counted.

        Work that no data goes into counts with the rows' share of it, whenever it was done; `offline_time_s` states it apart.
        """
        counted = {"int8_operations": (self.int8_operations, "")} if self.int8_operations else {}
        if any(self.shares):
            counted["offline_time_s"] = sum(self.shares), "s"
        return counted | {
            "encrypt_time_s": (self.encrypt_s - self.offline.encrypt_s + self.shares[0], "s"),
            "matmul_time_s": (self.matmul_s, "s"),
            "decrypt_time_s": (self.decrypt_s - self.offline.decrypt_s + self.shares[1], "s"),
            "upload_ciphertext_bytes": (self.upload_bytes, "B"),
            "download_ciphertext_bytes": (self.download_bytes, "B"),
        }


def timed_product(client: Client, server: Server, x: np.ndarray) -> TimedProduct:
    """Encrypt, multiply, decrypt; what is no encrypted product by the server's own count has no ciphertext."""
    before, offline = replace(server.counters), replace(client.offline)
    watch = Stopwatch()
    question = client.encrypt(x)
    encrypt_s = watch.lap()
    answer = server.matmul(question)
    matmul_s = watch.lap()
    y = client.decrypt(answer)
    decrypt_s = watch.lap()
    encrypted = server.counters.encrypted_products > before.encrypted_products
    sizes = (question.byte_count, answer.byte_count) if encrypted else (0, 0)
    operations = server.counters.int8_operations - before.int8_operations
    done = client.offline
    share = len(x) / done.rows if done.rows else 0.0
    shares = done.encrypt_s * share, done.decrypt_s * share
    spent = done.since(offline)
    return TimedProduct(y, encrypt_s, matmul_s, decrypt_s, *sizes, operations, matmul_s, offline=spent, shares=shares)
