"""Tiles of packed bits: the wire form of an answer's matrices, whose values have any number of bits.

A tile is LANES neighbouring columns with all their rows. A value is cut into fields of 8 bits and, for what is left over, of
4, 2 and 1; a field of f bits of 8 / f rows shares a byte. Fields of a tile follow one another, lowest bits first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.ring import LANES

GROUP = 8  # rows that the smallest field packs together
CHUNK_ROWS = 64  # of a tile, worked on at once: as float64, a third of a level-1 cache
CHUNK = CHUNK_ROWS * LANES


@dataclass(frozen=True)
class TiledBits:
    """rows x columns unsigned values of `bits` bits. data: uint8, tiles x bytes of a tile."""

    data: np.ndarray
    rows: int
    columns: int
    bits: int

    @classmethod
    def empty(cls, rows: int, columns: int, bits: int) -> TiledBits:
        """Room for a matrix."""
        return cls(np.empty((tile_count(columns), tile_bytes(rows, bits)), np.uint8), rows, columns, bits)

    @classmethod
    def from_bytes(cls, data: memoryview, rows: int, columns: int, bits: int) -> TiledBits:
        """The matrix whose `data` this is; raises ValueError when the length is another."""
        shape = tile_count(columns), tile_bytes(rows, bits)
        if len(data) != shape[0] * shape[1]:
            raise ValueError(f"{len(data)} bytes are no {rows} x {columns} values of {bits} bits")
        return cls(np.frombuffer(data, np.uint8).reshape(shape), rows, columns, bits)


def tile_count(columns: int) -> int:
    """Tiles of a matrix: the last one is filled up."""
    return -(-columns // LANES)


def tile_bytes(rows: int, bits: int) -> int:
    """Bytes of one tile."""
    return sum(-(-rows * field // 8) for field in _fields(bits)) * LANES


def _fields(bits: int) -> list[int]:
    return [8] * (bits // 8) + [field for field in (4, 2, 1) if bits & field]


def pack_flat(values: np.ndarray, bits: int) -> np.ndarray:
    """Lowest `bits` (1 to 8) bits of each byte, field after field: uint8 of `flat_bytes` bytes."""
    values, out = values.ravel().view(np.uint8), np.empty(flat_bytes(values.size, bits), np.uint8)
    at, done = 0, 0
    for field in _fields(bits):
        size = -(-values.size * field // 8)
        in_ranges(_pack_field, size, values, done, field, out[at : at + size], block=CHUNK)
        at, done = at + size, done + field
    return out


def unpack_flat(data: np.ndarray, bits: int, out: np.ndarray) -> None:
    """Fill `out` (int8, contiguous) with what `pack_flat` packed, sign-extended."""
    values, at, done = out.reshape(-1), 0, 0
    for field in _fields(bits):
        size = -(-values.size * field // 8)
        in_ranges(_unpack_field, size, data[at : at + size], done, field, 8 - bits, done + field == bits, values, block=CHUNK)
        at, done = at + size, done + field


def flat_bytes(count: int, bits: int) -> int:
    """Bytes of `count` values of `bits` bits."""
    return sum(-(-count * field // 8) for field in _fields(bits))


@numba.njit(nogil=True, cache=True)
def _pack_field(start, stop, values, done, field, out):
    """Bytes start..stop-1 of one field."""
    shared, kept = 8 // field, (1 << field) - 1
    for i in range(start, stop):
        byte = 0
        for k in range(min(shared, values.size - i * shared)):
            byte |= ((values[i * shared + k] >> done) & kept) << (field * k)
        out[i] = byte


@numba.njit(nogil=True, cache=True)
def _unpack_field(start, stop, data, done, field, unused, is_last, values):
    """Add one field from its bytes start..stop-1; the last one extends the sign."""
    shared, kept = 8 // field, (1 << field) - 1
    for i in range(start, stop):
        for k in range(min(shared, values.size - i * shared)):
            at = i * shared + k
            value = ((np.int64(data[i]) >> (field * k)) & kept) << done
            if done:
                value |= values[at]
            values[at] = np.int8(value << unused) >> unused if is_last else value


@numba.njit(nogil=True, cache=True)
def store_rows(values, rows, first, bits, total_rows, left, data):
    """Pack the first `rows` of GROUP rows of int64 values at row `first` (a multiple of GROUP), from column `left` on."""
    width = values.shape[1]
    line = np.zeros(-(-width // LANES) * LANES, np.uint8)
    at, done = 0, 0
    while done < bits:
        field = 8 if bits - done >= 8 else 4 if (bits - done) & 4 else 2 if (bits - done) & 2 else 1
        shared, kept = 8 // field, (1 << field) - 1
        for row in range(0, rows, shared):
            source = values[row]
            for i in range(width):
                line[i] = (source[i] >> done) & kept
            for other in range(1, min(shared, rows - row)):
                source = values[row + other]
                for i in range(width):
                    line[i] |= ((source[i] >> done) & kept) << (field * other)
            _scatter(line.view(np.uint64), data.view(np.uint64), left // LANES, (at + (first + row) // shared * LANES) // 8)
        at += -(-total_rows // shared) * LANES
        done += field


@numba.njit(nogil=True, cache=True)
def _scatter(line, data, tile, at):
    """One row of bytes, eight at a time, to the same place of neighbouring tiles."""
    words = LANES // 8
    for i in range(0, line.size, words):
        target = data[tile + i // words]
        for word in range(words):
            target[at + word] = line[i + word]


@numba.njit(nogil=True, cache=True)
def load_tile(tile, rows, total_rows, first, bits, out):
    """Unpack rows first..first+rows-1 (`first` a multiple of GROUP) of a tile into rows of LANES float64, flat."""
    whole = bits // 8
    out[: rows * LANES] = 0
    at, done = whole * total_rows * LANES, 8 * whole
    while done < bits:
        field = 4 if (bits - done) & 4 else 2 if (bits - done) & 2 else 1
        shared, unit, kept = 8 // field, 2.0 ** (done - 8 * whole), (1 << field) - 1
        for row in range(rows):
            begin = at + (first + row) // shared * LANES
            source, target = tile[begin : begin + LANES], out[row * LANES : (row + 1) * LANES]
            shift = field * (row % shared)
            for i in range(source.size):
                target[i] += ((source[i] >> shift) & kept) * unit
        at += -(-total_rows // shared) * LANES
        done += field
    for start in range(0, rows * LANES, CHUNK):
        target = out[start : min(start + CHUNK, rows * LANES)]
        for plane in range(whole - 1, -1, -1):
            begin = (plane * total_rows + first) * LANES + start
            source = tile[begin : begin + target.size]
            for i in range(source.size):
                target[i] = target[i] * 256.0 + source[i]
