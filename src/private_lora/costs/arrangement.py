"""How a step's products reach the workers that exist, and how long one takes: arithmetic alone.

A worker holds whole transformer blocks. Blocks follow each other, so that workers with different blocks (shards) never multiply
at the same time in one client's step. Only workers with the same blocks (replicas) do, each on some rows of a product.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BITS_PER_BYTE = 8
# Questions of a client on their way at once, for each of its workers (`network.client.remote`).
IN_FLIGHT = 2


@dataclass(frozen=True)
class Arrangement:
    """Workers of one client. holders: how many hold a product, with the share of the products that this is true of.

    shards: parts that the blocks are in. rows_per_question: as the client cuts products; None: all rows in one question, and
    replicas are spare. one_machine: client and workers share their cores. own_links: a link each, instead of the client's one.
    """

    workers: int = 1
    shards: int = 1
    holders: tuple[tuple[int, float], ...] = ((1, 1.0),)
    rows_per_question: int | None = None
    one_machine: bool = False
    own_links: bool = False

    @classmethod
    def of(cls, shards: int, replicas: int, rows_per_question: int | None = None) -> Arrangement:
        """So many shards, each held by so many replicas, on machines of their own."""
        return cls(shards * replicas, shards, ((replicas, 1.0),), rows_per_question)

    def questions(self, rows: int) -> list[int]:
        """Rows of each question of a product, as `RemotePlace` cuts them."""
        size = min(self.rows_per_question or rows, rows)
        return [min(size, rows - start) for start in range(0, rows, size)]

    def largest_share(self, rows: int, holders: int) -> float:
        """Of a product's rows that one holder answers: questions go round."""
        questions = self.questions(rows)
        return max(sum(questions[first::holders]) for first in range(holders)) / rows


@dataclass(frozen=True)
class Asked:
    """Seconds and bytes of all rows of a product; a question has the share of its rows. handling_s: of all messages, beside
    the wire.
    """

    encrypt_s: float
    matmul_s: float
    decrypt_s: float
    upload_bytes: float
    download_bytes: float
    handling_s: float = 0.0


@dataclass(frozen=True)
class Wire:
    """Of the client, both directions at once. latency_s: there and back."""

    bits_per_s: float = float("inf")
    latency_s: float = 0.0

    @classmethod
    def of(cls, network: dict | None) -> Wire:
        """None: messages take no time."""
        return cls() if network is None else cls(network["bandwidth_bits_per_s"], network["latency_s"])

    def seconds(self, size: float) -> float:
        """On the line, without the way."""
        return size * BITS_PER_BYTE / self.bits_per_s


def product_seconds(asked: Asked, rows: int, wire: Wire, how: Arrangement, holders: int) -> float:
    """From the first encryption to the last decryption of a product of so many rows, with so many holders.

    The client does one thing at a time, and so does each direction of a link and each worker; they overlap only where a product
    is cut into several questions. On one machine there are besides only so many cores: all work of processors follows each
    other, and the wire alone overlaps with it.
    """
    questions = how.questions(rows)
    seconds = _scheduled(asked, [count / rows for count in questions], wire, how, holders)
    if how.one_machine:
        work = asked.encrypt_s + asked.matmul_s + asked.decrypt_s + asked.handling_s
        first, last = questions[0] / rows, questions[-1] / rows
        alone = wire.seconds(first * asked.upload_bytes) + wire.seconds(last * asked.download_bytes) + wire.latency_s
        seconds = max(seconds, work + alone)
    return seconds


def _scheduled(asked: Asked, shares: list[float], wire: Wire, how: Arrangement, holders: int) -> float:
    """The end of the client's schedule: questions in order, each to the next holder, answers collected in order."""
    links = range(holders if how.own_links else 1)
    up, down, server = [0.0 for _ in links], [0.0 for _ in links], [0.0] * (1 if how.one_machine else holders)
    waiting: deque[tuple[float, float]] = deque()
    client, handling = 0.0, asked.handling_s / 2  # at either end: on the way there and on the way back
    for index, share in enumerate(shares):
        if len(waiting) == IN_FLIGHT * how.workers:
            client = _collected(client, waiting.popleft())
        client += share * asked.encrypt_s
        link, worker = index % len(up), index % len(server)
        up[link] = max(client, up[link]) + wire.seconds(share * asked.upload_bytes)
        there = up[link] + share * handling + wire.latency_s / 2
        server[worker] = max(there, server[worker]) + share * asked.matmul_s
        down[link] = max(server[worker], down[link]) + wire.seconds(share * asked.download_bytes)
        waiting.append((down[link] + share * handling + wire.latency_s / 2, share * asked.decrypt_s))
    for answer in waiting:
        client = _collected(client, answer)
    return client


def _collected(client: float, answer: tuple[float, float]) -> float:
    """When the client has an answer decrypted: (when it is there, seconds of decryption)."""
    return max(client, answer[0]) + answer[1]
