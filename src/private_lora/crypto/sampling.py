"""Random numbers of the scheme, all from AES-256-CTR streams keyed by the operating system.

A mask stream's key is public: it stands for the masks on the wire. Streams for secrets and errors never leave the client.
"""

from __future__ import annotations

import os

import numba
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from private_lora.crypto.parameters import ERROR_STD

SEED_BYTES = 32
_ZEROS = memoryview(bytes(2**20))
# Errors beyond this many standard deviations have a probability below 2^-64, which 64-bit words cannot show.
_TAIL = 10
_UNDECIDED = 127
# Room for values that 16 bits leave undecided: about 1 in 2,300 are, 1 in 256 fit.
_SPARE_SHARE = 256
_LEAST_SPARE = 64


def fresh_seed() -> bytes:
    """32 bytes from the operating system."""
    return os.urandom(SEED_BYTES)


class Stream:
    """Bytes of AES-256-CTR under a key of 32 bytes, from any block of 16 on."""

    def __init__(self, key: bytes, first_block: int = 0):
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

    def draw(self, count: int, dtype) -> np.ndarray:
        """The next `count` uniform integers of an unsigned type."""
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
    """Dense ternary secret, int8: each coefficient uniform in {-1, 0, 1}, by rejection of the byte 255."""
    kept = np.empty(0, np.uint8)
    while len(kept) < ring_size:
        drawn = stream.draw(ring_size, np.uint8)
        kept = np.concatenate([kept, drawn[drawn < 255]])
    return (kept[:ring_size] % 3).astype(np.int8) - np.int8(1)


def gaussian_errors(stream: Stream, count: int) -> np.ndarray:
    """`count` errors (int8) of the discrete Gaussian of std 3.2, P(x) ~ exp(-x^2 / (2 3.2^2)).

    By inversion of a table of 64-bit cumulative probabilities: at most `statistical_distance` from the distribution per value.
    The first 16 bits decide all but about 1 value in 2,300; those take 64 bits of their own.
    """
    spare = stream.draw(max(_LEAST_SPARE, count // _SPARE_SHARE), np.uint64)
    errors = np.empty(count, np.int8)
    used = _invert(stream.draw(count, np.uint16), spare, _FIRST, _CUMULATIVE, errors)
    if used > len(spare):
        raise RuntimeError("the error sampler ran out of random words, which has a probability below 2^-64: try again")
    return errors


def _probabilities() -> tuple[np.ndarray, list[float]]:
    tail = int(_TAIL * ERROR_STD)
    values = np.arange(-tail, tail + 1)
    weights = np.exp(-(values.astype(np.longdouble) ** 2) / (2 * np.longdouble(ERROR_STD) ** 2))
    return values, weights / weights.sum()


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Value by 16-bit prefix (or undecided), and the cumulative probabilities in units of 2^-64."""
    values, probabilities = _probabilities()
    edges = [min(2**64 - 1, int(np.rint(c * np.longdouble(2) ** 64))) for c in np.cumsum(probabilities)]
    edges[-1] = 2**64 - 1
    cumulative = np.array(edges, np.uint64)
    prefixes = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
    low = np.searchsorted(cumulative, prefixes, side="right")
    high = np.searchsorted(cumulative, prefixes + np.uint64(2**48 - 1), side="right")
    decided = np.minimum(low, len(values) - 1)
    return np.where(low == high, values[decided], _UNDECIDED).astype(np.int8), cumulative


def statistical_distance() -> float:
    """Largest total variation distance between a sampled error and the discrete Gaussian of std 3.2.

    Half a unit of 2^-64 for each edge of the table, plus the weight of the tail that it leaves out.
    """
    values, _ = _probabilities()
    beyond = np.arange(values[-1] + 1, 3 * values[-1], dtype=np.longdouble)
    tail = 2 * np.exp(-(beyond**2) / (2 * np.longdouble(ERROR_STD) ** 2)).sum() / (ERROR_STD * np.sqrt(2 * np.pi))
    return float(len(values) * np.longdouble(2) ** -64 + tail)


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
def _invert(prefixes, spare, first, cumulative, errors):
    """Fill `errors`; the number of spare words that were needed (beyond the given ones, too, but those values are not set)."""
    used = 0
    low = -(len(cumulative) // 2)
    for i in range(len(prefixes)):
        value = first[prefixes[i]]
        if value == _UNDECIDED:
            if used < len(spare):
                word = (np.uint64(prefixes[i]) << np.uint64(48)) | (spare[used] >> np.uint64(16))
                position = 0
                while position < len(cumulative) - 1 and cumulative[position] <= word:
                    position += 1
                value = np.int8(low + position)
            used += 1
        errors[i] = value
    return used


_FIRST, _CUMULATIVE = _tables()
