"""Random numbers of the scheme, all from AES-256-CTR streams keyed by the operating system.

A mask stream's key is public: it stands for the masks on the wire. Streams for secrets and errors never leave the client.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numba
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from private_lora.core.secrets import wipe
from private_lora.crypto.parameters import ERROR_STD

SEED_BYTES = 32
_ZEROS = memoryview(bytes(2**20))
# Errors beyond this many standard deviations have a probability below 2^-128, which words of 128 bits cannot show.
_TAIL = 14
_SLOT_BITS = 15
# About 1 value in 2,300 is undecided by 15 bits; that more than this many of a block are has a probability below 2^-114.
_BLOCK, _SPARES = 1024, 24
_SLOTS_AT_ONCE, _SPARES_AT_ONCE = 7, 4


def fresh_seed() -> bytearray:
    """32 bytes from the operating system, read into a buffer that can be wiped."""
    seed = bytearray(SEED_BYTES)
    _fill(seed)
    return seed


def _fill(buffer: bytearray) -> None:
    with open("/dev/urandom", "rb", buffering=0) as source:
        if source.readinto(buffer) != len(buffer):
            raise RuntimeError("the operating system gave no random bytes: look at /dev/urandom")


class Stream:
    """Bytes of AES-256-CTR under a key of 32 bytes, from any block of 16 on."""

    def __init__(self, key: bytes | bytearray, first_block: int = 0):
        if len(key) != SEED_BYTES:
            raise ValueError(f"a stream needs a key of {SEED_BYTES} bytes, not {len(key)}")
        counter = first_block.to_bytes(16, "big")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()

    def fill(self, out: np.ndarray) -> None:
        """Overwrite `out` (contiguous, of any type) with the next bytes."""
        view = memoryview(out).cast("B")
        for start in range(0, len(view), len(_ZEROS)):
            part = view[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(part)], part)

    def draw(self, count: int | tuple[int, ...], dtype) -> np.ndarray:
        """The next `count` (or shape) uniform integers of a type."""
        out = np.empty(count, dtype)
        self.fill(out)
        return out


def fill_mask_tiles(seed: bytes, log2_q: int, first: int, out: np.ndarray) -> None:
    """Overwrite `out` (int8, tiles x planes x N x LANES) with byte planes of masks from tile `first` on, uniform mod 2^log2_q.

    value = sum_i planes[i] 256^i. Signed bytes are digits of a complete residue system, so raw bytes of the stream are uniform
    without rejection; of the top plane only the bits below Q are kept, sign-extended.
    """
    Stream(seed, first * (out[0].size // 16)).fill(out)
    _keep_low_bits(out, -log2_q % 8)


def ternary_secret(stream: Stream, ring_size: int) -> np.ndarray:
    """Dense ternary secret, int8: each coefficient uniform in {-1, 0, 1}, by rejection of the byte 255.

    Where bytes are rejected is independent of those that are kept, so the time that it takes says nothing about the secret.
    """
    secret, filled = np.empty(ring_size, np.int8), 0
    while filled < ring_size:
        drawn = stream.draw(ring_size, np.uint8)
        kept = drawn[drawn < 255]
        part = kept[: ring_size - filled]
        _ternary(part, secret[filled : filled + len(part)])
        filled += len(part)
        wipe(drawn, kept)
    return secret


def gaussian_errors(stream: Stream, count: int) -> np.ndarray:
    """`count` errors (int8) of the discrete Gaussian of std 3.2, P(x) ~ exp(-x^2 / (2 3.2^2)).

    Each value takes 16 bits, one of them for the sign. The others choose one of 2^15 slots of equal probability. The edges
    between the values 0, 1, 2, ... of |x| lie inside a few slots; all other slots have a value, the number of edges below.
    Whoever falls into a slot with an edge takes one of its block's spare values, which are drawn from what those slots have
    together, with 128 bits: see `statistical_distance`.

    Time and memory accesses do not depend on the values: edges are counted, not searched, and each spare value is offered to
    the whole block. Raises RuntimeError where a block needs more spare values than it has: a probability below 2^-114.
    """
    upper, lower = spares = stream.draw((2, -(-count // _BLOCK) * _SPARES), np.uint64)
    words, errors = stream.draw(count, np.int16), np.empty(count, np.int8)
    values, work = np.zeros(len(upper), np.int64), np.empty((2, _BLOCK), np.int16)
    try:
        _spare_values(upper, lower, _HIGH_EDGES, _LOW_EDGES, values)
        if not _invert(words, values, _SLOTS, work, errors):
            wipe(errors)
            raise RuntimeError("the error sampler ran out of random words, which has a probability below 2^-114: try again")
    finally:
        wipe(spares, words, values, work)
    return errors


def _cumulative() -> list[Decimal]:
    """P(|x| <= k) for k = 0, 1, ... up to the tail, which is left out; the last one is 1."""
    variance = 2 * Decimal(ERROR_STD) ** 2
    weights = [(1 if k == 0 else 2) * (-k * k / variance).exp() for k in range(int(_TAIL * ERROR_STD) + 1)]
    return [sum(weights[: k + 1]) / sum(weights) for k in range(len(weights))]


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slots with an edge (the last has all the edges of the tail), and the edges of spare values: upper, lower 64 bits.

    Between the edges below slot i and i + 1 of those slots, a spare value has probability 1 / number of them.
    """
    with localcontext(prec=80):
        edges = [c * 2**_SLOT_BITS for c in _cumulative()[:-1]]
        slots = sorted({int(edge) for edge in edges})
        if len({int(edge) for edge in edges[: len(slots)]}) < len(slots) or slots[-1] != 2**_SLOT_BITS - 1:
            raise RuntimeError("slots with an edge must have one each, but for the last")
        if len(slots) % _SLOTS_AT_ONCE:
            raise RuntimeError(f"slots with an edge are counted {_SLOTS_AT_ONCE} at a time")
        inside = [slots.index(int(edge)) + edge % 1 for edge in edges]
        words = [int((edge / len(slots) * 2**128).to_integral_value()) for edge in inside]
    high, low = ([w >> 64 for w in words], [w & (2**64 - 1) for w in words])
    return np.array(slots, np.int16), np.array(high, np.uint64), np.array(low, np.uint64)


def statistical_distance() -> float:
    """Largest total variation distance between a sampled error and the discrete Gaussian of std 3.2.

    Half a unit of 2^-128 for each edge of spare values, times the probability that one is taken, plus the weight of the tail.
    """
    first, variance = int(_TAIL * ERROR_STD) + 1, 2 * ERROR_STD**2
    tail = sum(2 * math.exp(-k * k / variance) for k in range(first, 2 * first)) / (ERROR_STD * math.sqrt(2 * math.pi))
    return len(_HIGH_EDGES) * 2.0**-129 * len(_SLOTS) / 2**_SLOT_BITS + tail


@numba.njit(cache=True, nogil=True)
def _keep_low_bits(tiles, unused):
    """Sign-extend the top plane of every tile from all but its `unused` upper bits."""
    # Masking and moving the sign bit needs no shift, so it compiles to operations on bytes.
    kept, sign = 255 >> unused, 128 >> unused
    for tile in range(tiles.shape[0]):
        top = tiles[tile, tiles.shape[1] - 1].ravel()  # contiguous, so a view
        for i in range(top.size):
            top[i] = ((top[i] & kept) ^ sign) - sign


@numba.njit(cache=True, nogil=True)
def _ternary(values, out):
    """Bytes modulo 3, minus 1; without a division, whose time may depend on the values."""
    for i in range(values.size):
        value = np.int16(values[i])
        out[i] = value - 3 * ((value * 171) >> 9) - 1


@numba.njit(cache=True, nogil=True)
def _spare_values(upper, lower, high, low, values):
    """Number of edges (pairs: upper, lower 64 bits) that are not above a word of 128 bits, for each word."""
    for start in range(0, values.size, 256):
        uppers, lowers, counts = upper[start : start + 256], lower[start : start + 256], values[start : start + 256]
        for edge in range(high.size):
            a, b = high[edge], low[edge]
            for i in range(counts.size):
                x, y = uppers[i], lowers[i]
                counts[i] += np.int64(x > a) + (np.int64(x == a) & np.int64(y >= b))


# Loops of the kernels below have no branch and no index that depends on a value, and compile to vector operations. Several
# slots, or spare values, at a time: values are then loaded and stored less often.


@numba.njit(cache=True, nogil=True)
def _invert(words, spare_values, slots, work, errors):
    """Fill `errors`, block by block; whether spare values sufficed (where not, values are missing). work: 2 x block."""
    sufficient = True
    for start in range(0, words.size, _BLOCK):
        word, error = words[start : start + _BLOCK], errors[start : start + _BLOCK]
        value, undecided = work[0, : word.size], work[1, : word.size]
        value[:], undecided[:] = 0, 0
        for s in range(0, slots.size, _SLOTS_AT_ONCE):
            _place(word, slots[s : s + _SLOTS_AT_ONCE], value, undecided)
        sufficient &= _number(value, undecided) <= _SPARES
        first = start // _BLOCK * _SPARES
        for s in range(0, _SPARES, _SPARES_AT_ONCE):
            _offer(undecided, spare_values[first + s : first + s + _SPARES_AT_ONCE], s, value)
        for i in range(word.size):
            error[i] = value[i] * (1 - 2 * (word[i] & 1))
    return sufficient


@numba.njit(cache=True, nogil=True)
def _place(word, slots, value, undecided):
    """Count the slots below each word's, and mark words that are in one of them."""
    a, b, c, d, e, f, g = slots[0], slots[1], slots[2], slots[3], slots[4], slots[5], slots[6]
    for i in range(word.size):
        p = (word[i] >> 1) & 0x7FFF
        below = np.int16(p > a) + np.int16(p > b) + np.int16(p > c) + np.int16(p > d) + np.int16(p > e) + np.int16(p > f)
        value[i] += below + np.int16(p > g)
        inside = np.int16(p == a) | np.int16(p == b) | np.int16(p == c) | np.int16(p == d) | np.int16(p == e) | np.int16(p == f)
        undecided[i] |= inside | np.int16(p == g)


@numba.njit(cache=True, nogil=True)
def _number(value, undecided):
    """Number the marked from 1 on, and set their values to 0; how many there are."""
    for i in range(value.size):
        value[i] &= undecided[i] - np.int16(1)
    count = 0
    for i in range(value.size):
        count += undecided[i]
        undecided[i] = count & -undecided[i]
    return count


@numba.njit(cache=True, nogil=True)
def _offer(number, spare, first, value):
    """Give each spare value to whoever has its number, from first + 1 on."""
    a, b, c, d = np.int16(spare[0]), np.int16(spare[1]), np.int16(spare[2]), np.int16(spare[3])
    one, two, three, four = np.int16(first + 1), np.int16(first + 2), np.int16(first + 3), np.int16(first + 4)
    for i in range(value.size):
        n = number[i]
        value[i] += a * np.int16(n == one) + b * np.int16(n == two) + c * np.int16(n == three) + d * np.int16(n == four)


_SLOTS, _HIGH_EDGES, _LOW_EDGES = _tables()
