"""Messages of the `packed` backends: a question takes a mask seed and bodies up, an answer brings both products down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from private_lora.backends.contract import PACK_HEADER_BYTES, pack, unpack
from private_lora.crypto.bits import TiledBits, flat_bytes, pack_flat, tile_bytes, tile_count, unpack_flat
from private_lora.crypto.parameters import PackedParameters
from private_lora.crypto.ring import LANES
from private_lora.crypto.sampling import SEED_BYTES

_QUESTION, _ANSWER, _SESSION_QUESTION, _SESSION_ANSWER = 1, 2, 3, 4
_SESSION_NUMBERS = 5  # kind, rows, columns, bits up, bits down
_KIND = slice(20, 28)  # where a message says which it is
_MOST_BITS = 62
_NUMBERS = 8  # kind, rows, columns, and the five numbers of `sent`


@dataclass(frozen=True)
class PackedQuestion:
    """T encrypted rows of `columns` values. bodies: int8, tiles x byte planes x T x LANES; the masks are the seed's."""

    IS_CIPHERTEXT: ClassVar[bool] = True
    question_id: bytes
    mask_seed: bytes
    columns: int
    parameters: tuple[int, ...]
    bodies: np.ndarray

    @property
    def rows(self) -> int:
        """Of the matrix inside."""
        return self.bodies.shape[2]

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`."""
        planes, rows = self.bodies.shape[1:3]
        return question_bytes(rows, self.columns, planes)

    @property
    def residues(self) -> tuple[np.ndarray, int]:
        """The body's residues (int64, signed, T x K) and how many bits each has."""
        _, log2_q, dropped_bits, _, _ = self.parameters
        tiles, planes, rows, lanes = self.bodies.shape
        side_by_side = self.bodies.transpose(1, 2, 0, 3).reshape(planes, rows, tiles * lanes)
        return _joined(side_by_side[..., : self.columns], log2_q - dropped_bits), log2_q - dropped_bits

    def to_bytes(self) -> bytes:
        """Header, mask seed, bodies."""
        numbers = _QUESTION, self.bodies.shape[2], self.columns, *self.parameters
        return pack(self.mask_seed, _raw(self.bodies), numbers=numbers, key_id=self.question_id)


@dataclass(frozen=True)
class PackedAnswer:
    """The product of a question with a weight: masks (N x D) and bodies (T x D), as many bits of each as were agreed."""

    IS_CIPHERTEXT: ClassVar[bool] = True
    question_id: bytes
    parameters: tuple[int, ...]
    mask: TiledBits
    body: TiledBits

    @property
    def rows(self) -> int:
        """Of the matrix inside."""
        return self.body.rows

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`."""
        return PACK_HEADER_BYTES + 8 * _NUMBERS + self.mask.data.nbytes + self.body.data.nbytes

    def to_bytes(self) -> bytes:
        """Header, masks, bodies."""
        numbers = _ANSWER, self.body.rows, self.body.columns, *self.parameters
        return pack(_raw(self.mask.data), _raw(self.body.data), numbers=numbers, key_id=self.question_id)


@dataclass(frozen=True)
class SessionQuestion:
    """T encrypted rows of K values under a session's mask. digits: int8, byte planes x T x K; parameters: bits up, down."""

    IS_CIPHERTEXT: ClassVar[bool] = True
    question_id: bytes
    parameters: tuple[int, int]
    digits: np.ndarray

    @property
    def rows(self) -> int:
        """Of the matrix inside."""
        return self.digits.shape[1]

    @property
    def _top_bits(self) -> int:
        return self.parameters[0] - 8 * (len(self.digits) - 1)

    @property
    def residues(self) -> tuple[np.ndarray, int]:
        """The residues (int64, signed, T x K) and how many bits each has."""
        return _joined(self.digits, self.parameters[0]), self.parameters[0]

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`."""
        return session_question_bytes(*self.digits.shape[1:], self.parameters[0])

    def to_bytes(self) -> bytes:
        """Header, whole byte planes, and of the last plane the bits that there are."""
        numbers = _SESSION_QUESTION, *self.digits.shape[1:], *self.parameters
        top = pack_flat(self.digits[-1], self._top_bits)
        return pack(_raw(self.digits[:-1]), _raw(top), numbers=numbers, key_id=self.question_id)


@dataclass(frozen=True)
class SessionAnswer:
    """The product of a question with a weight: bodies (T x D). The client has the mask's part by itself."""

    IS_CIPHERTEXT: ClassVar[bool] = True
    question_id: bytes
    parameters: tuple[int, int]
    body: TiledBits

    @property
    def rows(self) -> int:
        """Of the matrix inside."""
        return self.body.rows

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`."""
        return _SESSION_BYTES + self.body.data.nbytes

    def to_bytes(self) -> bytes:
        """Header, bodies."""
        numbers = _SESSION_ANSWER, self.body.rows, self.body.columns, *self.parameters
        return pack(_raw(self.body.data), numbers=numbers, key_id=self.question_id)


_SESSION_BYTES = PACK_HEADER_BYTES + 8 * _SESSION_NUMBERS


def session_question_bytes(rows: int, columns: int, upload_bits: int) -> int:
    """Length of `to_bytes` of a session's question of rows x columns values."""
    whole, values = -(-upload_bits // 8) - 1, rows * columns
    return _SESSION_BYTES + whole * values + flat_bytes(values, upload_bits - 8 * whole)


def question_bytes(rows: int, columns: int, planes: int) -> int:
    """Length of `to_bytes` of a question of rows x columns values in so many byte planes, under a mask of its own."""
    return PACK_HEADER_BYTES + 8 * _NUMBERS + SEED_BYTES + tile_count(columns) * planes * rows * LANES


def session_answer_bytes(rows: int, columns: int, body_bits: int) -> int:
    """Length of `to_bytes` of an answer of rows x columns values."""
    return _SESSION_BYTES + tile_count(columns) * tile_bytes(rows, body_bits)


def answer_bytes(rows: int, columns: int, parameters: PackedParameters) -> int:
    """Length of `to_bytes` of an answer of rows x columns values."""
    tile = tile_bytes(parameters.ring_size, parameters.mask_bits) + tile_bytes(rows, parameters.body_bits)
    return PACK_HEADER_BYTES + 8 * _NUMBERS + tile_count(columns) * tile


def message_from_bytes(data: bytes) -> PackedQuestion | PackedAnswer | SessionQuestion | SessionAnswer:
    """What `to_bytes` wrote; raises ValueError when the bytes are damaged, of another size, or parameters are not allowed."""
    if int.from_bytes(data[_KIND], "little") in (_SESSION_QUESTION, _SESSION_ANSWER):
        return _session_message(data)
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


def _session_message(data: bytes) -> SessionQuestion | SessionAnswer:
    question_id, (kind, rows, columns, up, down), payload = unpack(data, _SESSION_NUMBERS)
    if not rows or not columns or not 1 <= down <= up <= _MOST_BITS:
        raise ValueError(f"these bytes are no message of a session: {rows} rows, {columns} columns, {up} and {down} bits")
    if kind == _SESSION_ANSWER:
        _check_size(payload, tile_count(columns) * tile_bytes(rows, down), kind="answer")
        return SessionAnswer(question_id, (up, down), TiledBits.from_bytes(payload, rows, columns, down))
    planes = -(-up // 8)
    top_bits, whole = up - 8 * (planes - 1), (planes - 1) * rows * columns
    _check_size(payload, whole + flat_bytes(rows * columns, top_bits), kind="question")
    digits = np.empty((planes, rows, columns), np.int8)
    digits[:-1] = np.frombuffer(payload[:whole], np.int8).reshape(planes - 1, rows, columns)
    unpack_flat(np.frombuffer(payload[whole:], np.uint8), top_bits, digits[-1])
    return SessionQuestion(question_id, (up, down), digits)


def _joined(planes: np.ndarray, bits: int) -> np.ndarray:
    """Signed residues of so many bits (int64) from byte planes (int8), the lowest first."""
    total = sum(plane.astype(np.int64) << (8 * i) for i, plane in enumerate(planes))
    return (total << (64 - bits)) >> (64 - bits)


def _raw(array: np.ndarray) -> memoryview:
    """The bytes of an array, without a copy of them."""
    return memoryview(np.ascontiguousarray(array)).cast("B") if array.size else memoryview(b"")  # of nothing, there is no cast


def _check_size(payload: memoryview, expected: int, kind: str) -> None:
    if len(payload) != expected:
        raise ValueError(f"this {kind} holds {len(payload)} bytes of ciphertext where its sizes ask for {expected}")
