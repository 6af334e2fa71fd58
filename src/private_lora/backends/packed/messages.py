"""Messages of the `packed` backends: a question takes a mask seed and bodies up, an answer brings both products down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from private_lora.backends.contract import PACK_HEADER_BYTES, pack, unpack
from private_lora.crypto.bits import TiledBits, tile_bytes, tile_count
from private_lora.crypto.parameters import PackedParameters
from private_lora.crypto.ring import LANES
from private_lora.crypto.sampling import SEED_BYTES

_QUESTION, _ANSWER = 1, 2
_NUMBERS = 8  # kind, rows, columns, and the five numbers of `sent`


@dataclass(frozen=True)
class PackedQuestion:
    """T encrypted rows of `columns` values. bodies: int8, tiles x byte planes x T x LANES; the masks are the seed's."""

    question_id: bytes
    mask_seed: bytes
    columns: int
    parameters: tuple[int, ...]
    bodies: np.ndarray

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`."""
        return PACK_HEADER_BYTES + 8 * _NUMBERS + SEED_BYTES + self.bodies.nbytes

    def to_bytes(self) -> bytes:
        """Header, mask seed, bodies."""
        numbers = _QUESTION, self.bodies.shape[2], self.columns, *self.parameters
        return pack(self.mask_seed, _raw(self.bodies), numbers=numbers, key_id=self.question_id)


@dataclass(frozen=True)
class PackedAnswer:
    """The product of a question with a weight: masks (N x D) and bodies (T x D), as many bits of each as were agreed."""

    question_id: bytes
    parameters: tuple[int, ...]
    mask: TiledBits
    body: TiledBits

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`."""
        return PACK_HEADER_BYTES + 8 * _NUMBERS + self.mask.data.nbytes + self.body.data.nbytes

    def to_bytes(self) -> bytes:
        """Header, masks, bodies."""
        numbers = _ANSWER, self.body.rows, self.body.columns, *self.parameters
        return pack(_raw(self.mask.data), _raw(self.body.data), numbers=numbers, key_id=self.question_id)


def answer_bytes(rows: int, columns: int, parameters: PackedParameters) -> int:
    """Length of `to_bytes` of an answer of rows x columns values."""
    tile = tile_bytes(parameters.ring_size, parameters.mask_bits) + tile_bytes(rows, parameters.body_bits)
    return PACK_HEADER_BYTES + 8 * _NUMBERS + tile_count(columns) * tile


def message_from_bytes(data: bytes) -> PackedQuestion | PackedAnswer:
    """What `to_bytes` wrote; raises ValueError when the bytes are damaged, of another size, or parameters are not allowed."""
    question_id, (kind, rows, columns, *sent), payload = unpack(data, _NUMBERS)
    if kind not in (_QUESTION, _ANSWER) or not rows or not columns:
        raise ValueError(f"these bytes are neither question nor answer: kind {kind}, {rows} rows, {columns} columns")
    ring_size, log2_q, dropped_bits, mask_bits, body_bits = sent
    p = PackedParameters(ring_size, log2_q, 0, dropped_bits, mask_bits, body_bits)
    if kind == _QUESTION:
        shape = tile_count(columns), p.body_planes, rows, LANES
        _check_size(payload, SEED_BYTES + math.prod(shape), kind="question")
        # A copy, because torch wants memory that it could write to.
        bodies = np.frombuffer(payload, np.int8, offset=SEED_BYTES).reshape(shape).copy()
        return PackedQuestion(question_id, bytes(payload[:SEED_BYTES]), columns, p.sent, bodies)
    cut = tile_count(columns) * tile_bytes(ring_size, mask_bits)
    _check_size(payload, cut + tile_count(columns) * tile_bytes(rows, body_bits), kind="answer")
    mask = TiledBits.from_bytes(payload[:cut], ring_size, columns, mask_bits)
    return PackedAnswer(question_id, p.sent, mask, TiledBits.from_bytes(payload[cut:], rows, columns, body_bits))


def _raw(array: np.ndarray) -> memoryview:
    """The bytes of an array, without a copy of them."""
    return memoryview(np.ascontiguousarray(array)).cast("B")


def _check_size(payload: memoryview, expected: int, kind: str) -> None:
    if len(payload) != expected:
        raise ValueError(f"this {kind} holds {len(payload)} bytes of ciphertext where its sizes ask for {expected}")
