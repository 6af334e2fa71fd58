"""Token-packed RLWE written from docs/wire.md alone: it shares no line with the package, and no way of computing.

Polynomials are lists of Python integers and are multiplied as large integers: slow, and exact without an argument. Matrices of
residues are NumPy arrays of Python integers (dtype object). Rows are in packed order wherever the page says so.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import xxhash
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LANES, SLOTS = 32, 512
QUESTION, ANSWER, SESSION_QUESTION, SESSION_ANSWER = 1, 2, 3, 4


@dataclass(frozen=True)
class Parameters:
    """The numbers of a plan that arithmetic needs; `slots` is N with fresh masks and SLOTS under those of a session."""

    ring_size: int
    log2_q: int
    delta: int
    dropped_bits: int
    mask_bits: int
    body_bits: int
    slots: int

    @classmethod
    def of_plan(cls, parameters: dict) -> Parameters:
        """From the handshake's JSON."""
        names = ("ring_size", "log2_q", "delta", "dropped_bits", "mask_bits", "body_bits")
        numbers = {name: parameters[name] for name in names}
        return cls(**numbers, slots=SLOTS if parameters["mask"] == "session" else numbers["ring_size"])

    @property
    def upload_bits(self) -> int:
        return self.log2_q - self.dropped_bits


def exponents(size: int) -> list[int]:
    """Packed order: the exponent of x at each place."""
    return [place // 2 + place % 2 * (size // 2) for place in range(size)]


def negacyclic(a: list[int], b: list[int], log2_q: int) -> list[int]:
    """a b modulo x^N + 1 and Q, coefficients in [0, Q): both at a power of two, multiplied as integers, and read off again."""
    size, width = len(a), (2 * log2_q + len(a).bit_length() + 7) // 8
    at = [int.from_bytes(b"".join((int(c) % 2**log2_q).to_bytes(width, "little") for c in p), "little") for p in (a, b)]
    product = (at[0] * at[1]).to_bytes(2 * size * width, "little")
    c = [int.from_bytes(product[i : i + width], "little") for i in range(0, len(product), width)]
    return [(c[i] - c[i + size]) % 2**log2_q for i in range(size)]


def times_secrets(matrix: np.ndarray, secrets: np.ndarray, rows: int, p: Parameters) -> np.ndarray:
    """A s modulo Q for `rows` rows: row t is place t mod slots of the product with secret t // slots.

    matrix: N x C residues. secrets: B x N, ternary. Each is r = N / slots polynomials; the products of all r are added.
    """
    natural, out = np.argsort(exponents(p.slots)), np.zeros((len(secrets) * p.slots, matrix.shape[1]), object)
    for column in range(matrix.shape[1]):
        for b, secret in enumerate(secrets):
            for first in range(0, p.ring_size, p.slots):
                polynomials = matrix[first : first + p.slots, column][natural], secret[first : first + p.slots][natural]
                product = np.array(negacyclic(*(list(map(int, c)) for c in polynomials), p.log2_q), object)
                out[b * p.slots : (b + 1) * p.slots, column] += product[exponents(p.slots)]
    return out[:rows] % 2**p.log2_q


def aes_ctr(key: bytes, first_block: int, size: int) -> bytes:
    """Bytes of AES-256 in counter mode from a block of 16 on; the counter is one big-endian number of 128 bits."""
    return Cipher(algorithms.AES(key), modes.CTR(first_block.to_bytes(16, "big"))).encryptor().update(bytes(size))


def mask(key: bytes, columns: int, p: Parameters) -> np.ndarray:
    """A modulo Q, N x columns, that a key stands for."""
    planes, tiles = -(-p.log2_q // 8), -(-columns // LANES)
    data = aes_ctr(key, 0, tiles * planes * p.ring_size * LANES)
    digits = np.frombuffer(data, np.int8).reshape(tiles, planes, p.ring_size, LANES).astype(object)
    values = sum(digits[:, i] * 256**i for i in range(planes)) % 2**p.log2_q
    return values.transpose(1, 0, 2).reshape(p.ring_size, -1)[:, :columns]


def hint(a: np.ndarray, weight: np.ndarray, p: Parameters) -> np.ndarray:
    """A W modulo Q (N x D): NumPy's 64-bit integers are integers modulo 2^64, which Q divides."""
    product = a.astype(np.uint64) @ weight.astype(np.int64).astype(np.uint64)
    return product.astype(object) % 2**p.log2_q


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers divided by 2^bits, to the nearest, halves to even."""
    quotients, rest, half = values >> bits, values & (2**bits - 1), 2**bits >> 1
    up = (rest > half) | ((rest == half) & (quotients & 1 == 1)) if bits else np.zeros(values.shape, bool)
    return quotients + up.astype(object)


def encrypt(message: np.ndarray, masked: np.ndarray, errors: np.ndarray, p: Parameters, coins=0) -> np.ndarray:
    """Signed residues of `upload_bits` bits, T x K, from scaled messages, A s and errors, all T x K integers.

    coins: T x K bits, by which the package rounds halves of a pad, 1 for down.
    """
    errors, message = errors.astype(object), message.astype(object)
    if p.slots < p.ring_size and p.delta:  # a pad, rounded before the message is added
        half = 2**p.dropped_bits >> 1
        body = ((masked + errors + half - coins * min(half, 1)) >> p.dropped_bits) + (message >> p.dropped_bits)
    else:
        body = rounded(masked + errors + message, p.dropped_bits)
    return (body + 2 ** (p.upload_bits - 1)) % 2**p.upload_bits - 2 ** (p.upload_bits - 1)


def decrypt(body: np.ndarray, mask_part: np.ndarray, mask_bits: int, scales: list, p: Parameters) -> np.ndarray:
    """x W (T x D) from an answer's body and the mask's part of it, (A W) s modulo 2^mask_bits; scales: of each row."""
    phase = (body << (p.log2_q - p.body_bits)) - (mask_part << (p.log2_q - mask_bits))
    centred = (phase + 2 ** (p.log2_q - 1)) % 2**p.log2_q - 2 ** (p.log2_q - 1)
    return np.array(
        [[round(int(v) / Fraction(scale)) for v in row] for row, scale in zip(centred, scales, strict=True)], np.int64
    )


def pack(numbers: tuple[int, ...], question_id: bytes, payload: bytes) -> bytes:
    """A message: magic, id, numbers, digest, payload."""
    header = b"PLR1" + question_id + struct.pack(f"<{len(numbers)}Q", *numbers)
    return header + xxhash.xxh3_128(header + payload).digest() + payload


def unpack(data: bytes, count: int) -> tuple[bytes, tuple[int, ...], bytes]:
    """Id, numbers and payload; raises ValueError on anything else."""
    size = 20 + 8 * count
    if data[:4] != b"PLR1" or xxhash.xxh3_128(data[:size] + data[size + 16 :]).digest() != data[size : size + 16]:
        raise ValueError("no message, or a damaged one")
    return data[4:20], struct.unpack(f"<{count}Q", data[20:size]), data[size + 16 :]


def fields(bits: int) -> list[int]:
    """How a value of `bits` bits is cut, lowest bits first."""
    return [8] * (bits // 8) + [field for field in (4, 2, 1) if bits & field]


def signed_bytes(residues: np.ndarray, planes: int) -> np.ndarray:
    """Digits in [-128, 127] to base 256, lowest first, planes x T x K; the top one modulo 256. As int8."""
    digits, rest = [], residues
    for _ in range(planes):
        digits.append((rest + 128) % 256 - 128)
        rest = (rest - digits[-1]) >> 8
    return np.array(digits).astype(np.int8)


def fresh_question(question_id: bytes, mask_key: bytes, residues: np.ndarray, columns: int, p: Parameters) -> bytes:
    """Message bytes; columns that fill up the last tile are zero where `residues` has none."""
    rows, width = residues.shape
    padded = np.concatenate([residues, np.zeros((rows, -width % LANES), object)], axis=1)
    digits = signed_bytes(padded, -(-p.upload_bits // 8))
    tiles = digits.reshape(len(digits), rows, -1, LANES).transpose(2, 0, 1, 3)
    numbers = QUESTION, rows, columns, p.ring_size, p.log2_q, p.dropped_bits, p.mask_bits, p.body_bits
    return pack(numbers, question_id, mask_key + tiles.tobytes())


def session_question(question_id: bytes, residues: np.ndarray, p: Parameters) -> bytes:
    """Message bytes."""
    *whole, top = signed_bytes(residues, -(-p.upload_bits // 8))
    flat, packed, done = top.ravel().astype(np.uint8), b"", 0
    for field in fields(p.upload_bits - 8 * len(whole)):
        share = 8 // field
        values = np.append((flat >> done) & (2**field - 1), np.zeros(-flat.size % share, np.uint8)).reshape(-1, share)
        packed += bytes(sum(int(v) << (field * k) for k, v in enumerate(row)) for row in values)
        done += field
    numbers = SESSION_QUESTION, *residues.shape, p.upload_bits, p.body_bits
    return pack(numbers, question_id, b"".join(plane.tobytes() for plane in whole) + packed)


def matrix_bytes(rows: int, columns: int, bits: int) -> int:
    """Length of a matrix in tiles."""
    return -(-columns // LANES) * sum(-(-rows * field // 8) for field in fields(bits)) * LANES


def write_matrix(values: np.ndarray, bits: int) -> bytes:
    """Tiles of unsigned values of `bits` bits; rows and columns that are not there are zero."""
    rows, columns = values.shape
    padded = np.zeros((-(-rows // 8) * 8, -(-columns // LANES) * LANES), object)
    padded[:rows, :columns] = values
    out = b""
    for tile in range(0, padded.shape[1], LANES):
        done = 0
        for field in fields(bits):
            share = 8 // field
            parts = ((padded[:, tile : tile + LANES] >> done) & (2**field - 1)).reshape(-1, share, LANES)
            lines = sum(parts[:, k] << (field * k) for k in range(share))[: -(-rows // share)]
            out, done = out + lines.astype(np.uint8).tobytes(), done + field
    return out


def read_matrix(data: bytes, rows: int, columns: int, bits: int) -> np.ndarray:
    """Unsigned values of `bits` bits, rows x columns, from their tiles."""
    tiles = np.frombuffer(data, np.uint8).reshape(-(-columns // LANES), -1)
    out = np.zeros((len(tiles), rows, LANES), object)
    at = done = 0
    for field in fields(bits):
        share = 8 // field
        lines = -(-rows // share)
        part = tiles[:, at : at + lines * LANES].reshape(len(tiles), lines, LANES)
        for row in range(rows):
            values = (part[:, row // share] >> (field * (row % share))) & (2**field - 1)
            out[:, row] += values.astype(object) << done
        at, done = at + lines * LANES, done + field
    return out.transpose(1, 0, 2).reshape(rows, -1)[:, :columns]


def open_answer(data: bytes, question_id: bytes, secrets, scales: list, columns: int, p: Parameters, hint=None) -> np.ndarray:
    """x W (T x columns) from an answer's bytes. scales: of T rows. hint: A W modulo Q, N x columns, under session masks."""
    rows, session = len(scales), hint is not None
    sent = (p.upload_bits,) if session else (p.ring_size, p.log2_q, p.dropped_bits, p.mask_bits)
    expected = SESSION_ANSWER if session else ANSWER, rows, columns, *sent, p.body_bits
    found_id, numbers, payload = unpack(bytes(data), len(expected))
    if (found_id, numbers) != (question_id, expected):
        raise ValueError(f"an answer to another question: {numbers} where {expected} was asked for")
    cut = 0 if session else matrix_bytes(p.ring_size, columns, p.mask_bits)
    body = read_matrix(payload[cut:], rows, columns, p.body_bits)
    bits, mask_part = (
        (p.log2_q, hint) if session else (p.mask_bits, read_matrix(payload[:cut], p.ring_size, columns, p.mask_bits))
    )
    return decrypt(body, times_secrets(mask_part, secrets, rows, p) % 2**bits, bits, scales, p)
