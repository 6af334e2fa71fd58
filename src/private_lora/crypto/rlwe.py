"""Encryption and decryption of token-packed RLWE: the client's arithmetic, tile by tile.

Row t of a matrix is one coefficient (place t mod N of the packed order, see `ring`) of its column's polynomial; each N rows
have a secret of their own under the one mask. A tile is LANES columns.
"""

from __future__ import annotations

import numba
import numpy as np

from private_lora.core.secrets import wipe
from private_lora.crypto.bits import CHUNK, CHUNK_ROWS, TiledBits, load_tile, tile_count
from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.parameters import PackedParameters
from private_lora.crypto.ring import LANES, exact_bits, forward, inverse, multiply, roots, transform
from private_lora.crypto.sampling import Stream, fill_mask_tiles, gaussian_errors, ternary_secret

# A mask wider than `exact_bits` is multiplied in two parts, the first of this many byte planes.
_LOW_PLANES = 4
# Each tile's errors begin at a block of their own, further apart than any tile is long.
BLOCKS_PER_TILE = 2**40
# Tiles that a thread works on at once: between them threads pass the interpreter lock to and fro, which is slow.
_GROUP = 4


def fresh_secrets(seed: bytes, ring_size: int, rows: int) -> np.ndarray:
    """Ternary secrets (int8, B x N), one for each N rows, from the stream of `seed`."""
    stream = Stream(seed)
    secrets = np.empty((-(-rows // ring_size), ring_size), np.int8)
    for secret in secrets:
        drawn = ternary_secret(stream, ring_size)
        secret[:] = drawn
        wipe(drawn)
    return secrets


def encrypt_rows(
    x: np.ndarray, delta: np.ndarray, mask_seed: bytes, secrets: np.ndarray, error_seed: bytes, parameters: PackedParameters
) -> np.ndarray:
    """Bodies of delta[t] x[t, j], T x K integers, under the mask of `mask_seed`: int8, tiles x byte planes x T x LANES.

    All three, mask seed, secrets (B x N) and error seed, must be fresh: a pair of mask and secret encrypts once. Columns that
    fill up the last tile are encryptions of zero.
    """
    rows, columns = x.shape
    p, spectra = parameters, transform(secrets)
    bodies = np.empty((tile_count(columns), p.body_planes, rows, LANES), np.int8)
    low_planes = p.mask_planes if p.log2_q <= exact_bits(p.ring_size) else _LOW_PLANES
    constants = roots(p.ring_size)
    messages = _tiled(x)

    def tiles(start: int, stop: int) -> None:
        masks = np.empty((_GROUP, p.mask_planes, p.ring_size, LANES), np.int8)
        work = np.empty((2, 1 if low_planes == p.mask_planes else 2, p.ring_size * LANES))
        errors = None
        try:
            for first in range(start, stop, _GROUP):
                last = min(stop, first + _GROUP)
                group = masks[: last - first]
                fill_mask_tiles(mask_seed, p.log2_q, first, group)
                errors = gaussian_errors(Stream(error_seed, first * BLOCKS_PER_TILE), len(group) * rows * LANES)
                sources = errors.reshape(len(group), -1), messages[first:last], delta, p.delta > 0
                _encrypt(
                    group, low_planes, spectra, *sources, work, bodies[first:last], p.dropped_bits, p.upload_bits, *constants
                )
                wipe(errors)
        finally:
            wipe(errors, work)

    try:
        in_ranges(tiles, len(bodies))
    finally:
        wipe(spectra)
    return bodies


def _tiled(x: np.ndarray) -> np.ndarray:
    """Tiles of a matrix (tiles x T LANES), the last filled up with zeros: columns side by side, as the kernels read them."""
    rows, columns = x.shape
    tiles = tile_count(columns)
    padded = x
    if columns % LANES:
        padded = np.zeros((rows, tiles * LANES), x.dtype)
        padded[:, :columns] = x
    return padded.reshape(rows, tiles, LANES).transpose(1, 0, 2).reshape(tiles, rows * LANES)


def decrypt_rows(
    mask: TiledBits, body: TiledBits, delta: np.ndarray, secrets: np.ndarray, parameters: PackedParameters, rounded: bool = True
) -> np.ndarray:
    """T x D integers (int64) from an answer's mask (N x D) and body (T x D): phase / delta[t], rounded to the nearest.

    `rounded=False` gives the phase in units of delta[t], float64, with its error: what noise measurements need.
    """
    out = np.empty((body.rows, body.columns), np.int64 if rounded else np.float64)
    scale = 2.0 ** (parameters.log2_q - parameters.mask_bits) / delta
    constants = parameters.mask_bits, parameters.body_bits, rounded, *roots(parameters.ring_size)
    spectra = transform(secrets)
    try:
        in_ranges(_decrypt, len(mask.data), mask.data, body.data, spectra, scale, out, *constants)
    finally:
        wipe(spectra)
    return out


def mask_tiles(seed: bytes, parameters: PackedParameters, columns: int) -> np.ndarray:
    """The masks of `columns` columns that a seed stands for: int8, tiles x byte planes x N x LANES."""
    tiles = np.empty((tile_count(columns), parameters.mask_planes, parameters.ring_size, LANES), np.int8)

    def fill(start: int, stop: int) -> None:
        fill_mask_tiles(seed, parameters.log2_q, start, tiles[start:stop])

    in_ranges(fill, len(tiles))
    return tiles


# Loops of the kernels below run over chunks or over neighbouring lanes and have no other loop inside: that is what the compiler
# turns into vector instructions. Chunks keep all but the transforms in the level-1 cache.


@numba.njit(nogil=True, cache=True)
def _encrypt(masks, low_planes, spectra, errors, messages, delta, uniform, work, bodies, dropped, kept, root_re, root_im):
    """Fill tiles of bodies (tiles x planes x T x LANES) with (a s + e + delta m), rounded and reduced to `kept` bits."""
    for tile in range(len(masks)):
        digits = masks[tile].reshape((masks.shape[1], work.shape[2]))
        arguments = spectra, errors[tile], messages[tile], delta, uniform, work, bodies[tile]
        _encrypt_tile(digits, low_planes, *arguments, dropped, kept, root_re, root_im)


@numba.njit(nogil=True, cache=True)
def _encrypt_tile(digits, low_planes, spectra, errors, x, delta, uniform, work, bodies, dropped, kept, root_re, root_im):
    size = digits.shape[1]
    masks, products = work[0], work[1]
    parts = len(masks)
    for part in range(parts):
        load_digits(digits[:low_planes] if part == 0 else digits[low_planes:], masks[part])
        forward(masks[part], root_re, root_im)
    values = np.empty(CHUNK, np.int64)
    for batch in range(spectra.shape[0]):
        if batch == spectra.shape[0] - 1:
            products = masks  # needed no more
        for part in range(parts):
            multiply(masks[part], spectra[batch], products[part])
            inverse(products[part], root_re, root_im)
        first = batch * size // LANES
        rows = min(size // LANES, x.size // LANES - first)
        for row in range(0, rows, CHUNK_ROWS):
            stop = min(rows, row + CHUNK_ROWS)
            chunk = values[: (stop - row) * LANES]
            start = (first + row) * LANES
            _message(errors[start:], x[start : start + chunk.size], delta[first + row :], uniform, chunk)
            reduce(products[:, row * LANES : stop * LANES], 8 * low_planes, dropped, kept, chunk)
            _store_digits(chunk, bodies, first + row)
    values[:] = 0


@numba.njit(nogil=True, cache=True)
def load_digits(planes, out):
    """out = sum_i planes[i] 256^i."""
    for start in range(0, out.size, CHUNK):
        target = out[start : start + CHUNK]
        target[:] = 0
        for plane in range(planes.shape[0] - 1, -1, -1):
            source = planes[plane, start : start + CHUNK]
            for i in range(source.size):
                target[i] = target[i] * 256.0 + source[i]


@numba.njit(nogil=True, cache=True)
def _message(errors, x, delta, uniform, values):
    """e + round(delta m), rows of LANES, flat; one delta for all rows if `uniform`."""
    if uniform:
        scale = delta[0]
        for i in range(values.size):
            values[i] = np.int64(np.rint(scale * x[i])) + errors[i]
        return
    for row in range(values.size // LANES):
        scale = delta[row]
        for i in range(row * LANES, (row + 1) * LANES):
            values[i] = np.int64(np.rint(scale * x[i])) + errors[i]


@numba.njit(nogil=True, cache=True)
def reduce(products, part_bits, dropped, kept, values):
    """values + products, `dropped` bits rounded away half to even, reduced to `kept` signed bits.

    Reduction comes before anything leaves: the integer a s, unreduced, would tell of s.
    """
    if products.shape[0] == 2:
        high = products[1]
        for i in range(values.size):
            values[i] += np.int64(np.rint(high[i])) << part_bits
    low, spare = products[0], 64 - kept
    middle, low_bits = (np.int64(1) << dropped) >> 1, (np.int64(1) << dropped) - 1
    for i in range(values.size):
        value = values[i] + np.int64(np.rint(low[i]))
        quotient = value >> dropped
        # The parity is masked: where no bits are dropped, it must not round.
        quotient += np.int64((value & low_bits) + (quotient & low_bits & 1) > middle)
        values[i] = (quotient << spare) >> spare


@numba.njit(nogil=True, cache=True)
def _store_digits(values, planes, first):
    """Signed bytes of the values, lowest first, from row `first` on: with 128 added at each digit, they are plain bytes."""
    offset = np.int64(0)
    for plane in range(planes.shape[0]):
        offset += np.int64(128) << (8 * plane)
    for plane in range(planes.shape[0]):
        shift = 8 * plane
        target = planes[plane].ravel()[first * LANES : first * LANES + values.size]
        for i in range(values.size):
            target[i] = ((values[i] + offset) >> shift) ^ 128


@numba.njit(nogil=True, cache=True)
def _decrypt(start, stop, mask, body, spectra, scale, out, mask_bits, body_bits, rounded, root_re, root_im):
    """Fill the columns of tiles start..stop-1 of `out` with (b' - a' s mod Q) scale[t]."""
    ring_size, rows = 2 * spectra.shape[1], out.shape[0]
    masks, other = np.empty(ring_size * LANES), np.empty(ring_size * LANES)
    phases = np.empty(CHUNK)
    for tile in range(start, stop):
        load_tile(mask[tile], ring_size, ring_size, 0, mask_bits, masks)
        forward(masks, root_re, root_im)
        for batch in range(spectra.shape[0]):
            product = masks if batch == spectra.shape[0] - 1 else other
            multiply(masks, spectra[batch], product)
            inverse(product, root_re, root_im)
            first = batch * ring_size
            last = min(rows, first + ring_size)
            for row in range(first, last, CHUNK_ROWS):
                end = min(last, row + CHUNK_ROWS)
                chunk = phases[: (end - row) * LANES]
                load_tile(body[tile], end - row, rows, row, body_bits, chunk)
                _subtract(chunk, product[(row - first) * LANES :], 2.0 ** (mask_bits - body_bits), 2.0**mask_bits)
                _store_phases(chunk, scale[row:end], rounded, out[row:end], tile * LANES)
    masks[:] = 0
    other[:] = 0
    phases[:] = 0


@numba.njit(nogil=True, cache=True)
def _subtract(phases, product, step, modulus):
    """phases step - product, reduced to the modulus around zero."""
    inverse_modulus = 1.0 / modulus
    for i in range(phases.size):
        phase = step * phases[i] - product[i]
        phases[i] = phase - modulus * np.rint(phase * inverse_modulus)


@numba.njit(nogil=True, cache=True)
def _store_phases(phases, scale, rounded, out, column):
    width = min(LANES, out.shape[1] - column)
    for row in range(out.shape[0]):
        target, at, factor = out[row], row * LANES, scale[row]
        if rounded:
            for v in range(width):
                target[column + v] = np.rint(phases[at + v] * factor)
        else:
            for v in range(width):
                target[column + v] = phases[at + v] * factor
