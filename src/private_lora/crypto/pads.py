"""Pads: what a question under a session's mask needs and does not depend on the data, a s + e and (A W) s.

A pad has slots, one for a token. Each is used once: a row of a question takes a slot's A s + e up and adds its message; the
slot's (A W) s waits for the answer. So one RLWE sample is revealed in parts, and a batch of 128 rows pays for 128 slots.

The N coefficients of a column of A, or of A W, are r = N / SLOTS polynomials of SLOTS coefficients each, a row of module-RLWE
of rank r: A and A W are the same integers whatever r is, since the server multiplies coefficient by coefficient. Dimension and
estimate are those of N; a secret (r polynomials) makes a pad of SLOTS slots, which bounds the memory.
"""

from __future__ import annotations

import numba
import numpy as np

from private_lora.core.secrets import OneProcess, wipe
from private_lora.crypto.bits import CHUNK, CHUNK_ROWS, TiledBits, load_tile, tile_count
from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.ring import LANES, ROW, forward, inverse, roots, transform
from private_lora.crypto.rlwe import BLOCKS_PER_TILE, load_digits, reduce
from private_lora.crypto.sampling import Stream, fill_mask_tiles, fresh_seed, gaussian_errors
from private_lora.crypto.session_parameters import SessionParameters

SLOTS = 512
# Masks wider than this are multiplied in two parts: the error of the transforms stays far below 1/2, so a s is exact.
EXACT_BITS = 42
_LOW_PLANES = 4
# Where a tile's coins begin in the stream of its errors, in blocks: halfway to the next tile's errors.
_FIRST_COIN_BLOCK = BLOCKS_PER_TILE // 2


class Pad:
    """Slots of one product, made of fresh secrets (one for each SLOTS slots) under its mask.

    low, high: A s + e, rounded and reduced as `pad_dropped_bits` says, slots x K: its lower 32 bits, and the others. phase:
    upper `phase_bits` of (A W) s, slots x D, made when first asked for; then the secrets are forgotten. taken: slots used.
    """

    def __init__(self, mask_key: bytes, inputs: int, secrets: np.ndarray, parameters: SessionParameters):
        self.low = self.high = self._phase = None
        self.slots, self.taken, self._process = len(secrets) * SLOTS, 0, OneProcess()
        self._spectra = _spectra(secrets)
        self.low, self.high = _masked_errors(mask_key, inputs, self._spectra, parameters)

    def __del__(self):
        self.close()

    def __reduce__(self):
        raise TypeError("pads are not serialized: they stay in the client's process")

    @property
    def left(self) -> int:
        """Slots that nothing has used."""
        return self.slots - self.taken

    def take(self, rows: int) -> slice:
        """The next `rows` slots, given out once; raises RuntimeError in a fork, where they would be given out again."""
        self._process.check()
        if rows > self.left:
            raise RuntimeError(f"a pad has {self.left} slots left, {rows} are asked for")
        first, self.taken = self.taken, self.taken + rows
        return slice(first, self.taken)

    def wipe(self, slots: slice) -> None:
        """Forget slots whose answer was opened, or will not come; their A s + e was wiped as it was used."""
        if self._phase is not None:
            wipe(self._phase[slots])

    def phase(self, hint, parameters: SessionParameters) -> np.ndarray:
        """(A W) s modulo Q by slot, slots x D. hint: of the same mask and weight, see `_phases`."""
        if self._phase is None:
            self._phase = _phases(hint, self._spectra, parameters)
            wipe(self._spectra)
            self._spectra = None
        return self._phase

    def close(self) -> None:
        """Wipe everything; no slot is left. Slots that were taken have wiped their A s + e themselves."""
        if self.low is not None and self.high is not None:
            wipe(self.low[self.taken :], self.high[self.taken :])
        wipe(self._spectra, self._phase)
        self.taken = self.slots


def _spectra(secrets: np.ndarray) -> np.ndarray:
    """Values at all roots of secrets (int8, B x N): B x r x SLOTS/2 x 2, divided by SLOTS/2 for the inverse transform."""
    count, size = secrets.shape
    spectra = transform(secrets.reshape(-1, SLOTS)).reshape(count, size // SLOTS, SLOTS // 2, 2)
    spectra *= 2.0 / SLOTS
    return spectra


def _masked_errors(mask_key, inputs, spectra, p: SessionParameters) -> tuple[np.ndarray, np.ndarray]:
    tiles, slots = tile_count(inputs), len(spectra) * SLOTS
    low = np.empty((slots, tiles * LANES), np.uint32)
    high = np.empty(low.shape, np.int8 if p.log2_q - p.pad_dropped_bits <= 40 else np.int32)
    low_planes = p.mask_planes if p.log2_q <= EXACT_BITS else _LOW_PLANES
    error_seed, constants = fresh_seed(), roots(SLOTS)

    def fill(start: int, stop: int) -> None:
        digits = np.empty((1, p.mask_planes, p.ring_size, LANES), np.int8)
        work = np.empty((1 if low_planes == p.mask_planes else 2, slots * LANES))
        block = np.empty(SLOTS * LANES)
        errors = None
        try:
            for tile in range(start, stop):
                fill_mask_tiles(mask_key, p.log2_q, tile, digits)
                errors = gaussian_errors(Stream(error_seed, tile * BLOCKS_PER_TILE), slots * LANES)
                coins = rounding_coins(error_seed, tile, slots)
                planes = digits[0].reshape(p.mask_planes, -1)
                sizes = low_planes, p.log2_q, p.pad_dropped_bits
                _masked_errors_tile(planes, errors, coins, spectra, *sizes, block, work, low, high, tile * LANES, *constants)
                wipe(errors)
        finally:
            wipe(errors, work, block)

    try:
        in_ranges(fill, tiles)
    finally:
        wipe(error_seed)
    return low, high


def rounding_coins(error_seed: bytes, tile: int, slots: int) -> np.ndarray:
    """Fair coins that say which way halves of a tile are rounded: a word of LANES bits for each slot, 1 for down."""
    return Stream(error_seed, tile * BLOCKS_PER_TILE + _FIRST_COIN_BLOCK).draw(slots, np.uint32)


def _phases(hint, spectra: np.ndarray, p: SessionParameters) -> np.ndarray:
    """hint: gives `data(tile)`, the bytes of a tile, and `columns`."""
    tiles, slots = tile_count(hint.columns), len(spectra) * SLOTS
    phase = np.empty((slots, tiles * LANES), np.int32 if p.phase_bits == 32 else np.int64)
    scale, constants = 2.0 ** (p.phase_bits - p.mask_bits), roots(SLOTS)

    def fill(start: int, stop: int) -> None:
        work, block = np.empty(slots * LANES), np.empty(SLOTS * LANES)
        try:
            for tile in range(start, stop):
                arguments = hint.data(tile), p.ring_size, p.mask_bits, spectra, scale, block, work, phase, tile * LANES
                _phases_tile(*arguments, *constants)
        finally:
            wipe(work)

    in_ranges(fill, tiles)
    return phase


def encrypt_slots(x: np.ndarray, scale: np.ndarray, pad: Pad, slots: slice, p: SessionParameters, out: np.ndarray) -> None:
    """Fill `out` (int8, byte planes x T x K) with encryptions of x (T x K integers) under T slots, which are wiped.

    scale: of each row's message, in units of Q's last bit (T).
    """
    widths = p.dropped_bits - p.pad_dropped_bits, p.upload_bits
    arguments = x, scale / 2.0**p.pad_dropped_bits, pad.low[slots], pad.high[slots], *widths, out
    in_ranges(_encrypt, len(x), *arguments)


def decrypt_slots(
    body: TiledBits, phase: np.ndarray, scale: np.ndarray, parameters: SessionParameters, rounded: bool = True
) -> np.ndarray:
    """T x D integers (int64) from an answer's body (T x D) and its slots' phases, which are wiped.

    scale: of each row's message, in units of Q's last bit (T). `rounded=False` gives the products with their errors, float64.
    """
    out = np.empty((body.rows, body.columns), np.int64 if rounded else np.float64)
    p = parameters
    factor = 2.0 ** (p.log2_q - p.phase_bits) / scale
    in_ranges(_decrypt, len(body.data), body.data, phase, factor, p.body_bits, p.phase_bits, rounded, out)
    return out


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _multiply_add(block, spectrum, is_first, out):
    """Pointwise product of a transformed block with a transformed factor, added to `out`, or in its place."""
    for row in range(spectrum.shape[0]):
        a, b = spectrum[row, 0], spectrum[row, 1]
        source, target = block[row * ROW : (row + 1) * ROW], out[row * ROW : (row + 1) * ROW]
        if is_first:
            for v in range(LANES):
                re, im = source[v], source[v + LANES]
                target[v] = re * a - im * b
                target[v + LANES] = re * b + im * a
        else:
            for v in range(LANES):
                re, im = source[v], source[v + LANES]
                target[v] += re * a - im * b
                target[v + LANES] += re * b + im * a


@numba.njit(nogil=True, cache=True)
def _masked_errors_tile(
    digits, errors, coins, spectra, low_planes, log2_q, dropped, block, work, low, high, column, root_re, root_im
):
    """Columns column.. of `low` and `high`, from the mask's digits (planes x N LANES), errors (slots LANES) and coins (slots).

    Which way a half is rounded, a coin says: halves to even would make even values likelier, and a message that is added to
    them would show its own parity. Nothing about the error may say it, or rounding were no function of A s + e alone.
    """
    secrets, rank, size = spectra.shape[0], spectra.shape[1], block.size
    for part in range(work.shape[0]):
        planes = digits[:low_planes] if part == 0 else digits[low_planes:]
        for i in range(rank):
            load_digits(planes[:, i * size : (i + 1) * size], block)
            forward(block, root_re, root_im)
            for s in range(secrets):
                _multiply_add(block, spectra[s, i], i == 0, work[part, s * size : (s + 1) * size])
        for s in range(secrets):
            inverse(work[part, s * size : (s + 1) * size], root_re, root_im)
    values = np.empty(CHUNK, np.int64)
    middle, low_bits, spare = (np.int64(1) << dropped) >> 1, (np.int64(1) << dropped) - 1, 64 - (log2_q - dropped)
    for start in range(0, errors.size, CHUNK):
        source = errors[start : start + CHUNK]
        for i in range(source.size):
            values[i] = source[i]
        reduce(work[:, start : start + source.size], 8 * low_planes, 0, log2_q, values[: source.size])
        for row in range(source.size // LANES):
            slot = start // LANES + row
            lows, highs = low[slot, column : column + LANES], high[slot, column : column + LANES]
            at, word = values[row * LANES : (row + 1) * LANES], np.int64(coins[slot])
            for v in range(LANES):
                value = (at[v] + middle - ((word >> v) & low_bits & 1)) >> dropped
                value = (value << spare) >> spare
                lows[v] = value
                highs[v] = value >> 32
    values[:] = 0


@numba.njit(nogil=True, cache=True)
def _phases_tile(hint, ring_size, bits, spectra, scale, block, work, phase, column, root_re, root_im):
    """Columns column.. of `phase`, from one tile of the hint."""
    secrets, rank, size = spectra.shape[0], spectra.shape[1], block.size
    rows = size // LANES
    for i in range(rank):
        load_tile(hint, rows, ring_size, i * rows, bits, block)
        forward(block, root_re, root_im)
        for s in range(secrets):
            _multiply_add(block, spectra[s, i], i == 0, work[s * size : (s + 1) * size])
    for s in range(secrets):
        inverse(work[s * size : (s + 1) * size], root_re, root_im)
    for slot in range(work.size // LANES):
        source, target = work[slot * LANES : (slot + 1) * LANES], phase[slot, column : column + LANES]
        for v in range(LANES):
            target[v] = np.int64(np.rint(source[v] * scale))  # modulo 2^32, where that is what is kept


@numba.njit(nogil=True, cache=True)
def _encrypt(start, stop, x, scale, low, high, dropped, kept, out):
    """Rows start..stop-1: digits of (pad + scale x), `dropped` bits rounded away, reduced to `kept` signed bits; the pad's rows
    become 0.
    """
    spare, planes, columns = 64 - kept, out.shape[0], out.shape[2]
    middle, low_bits = (np.int64(1) << dropped) >> 1, (np.int64(1) << dropped) - 1
    offset = np.int64(0)
    for plane in range(planes):
        offset += np.int64(128) << (8 * plane)
    values = np.empty(CHUNK, np.int64)
    for row in range(start, stop):
        unit = scale[row]
        for first in range(0, columns, CHUNK):
            last = min(columns, first + CHUNK)
            lows, highs, source = low[row, first:last], high[row, first:last], x[row, first:last]
            for i in range(last - first):
                value = (np.int64(highs[i]) << 32) + np.int64(lows[i]) + np.int64(np.rint(unit * source[i]))
                quotient = value >> dropped
                quotient += np.int64((value & low_bits) + (quotient & low_bits & 1) > middle)
                # Reduction comes before anything leaves: the unreduced sum would tell of the message.
                values[i] = ((quotient << spare) >> spare) + offset
            for plane in range(planes):
                shift, target = 8 * plane, out[plane, row, first:last]
                for i in range(last - first):
                    target[i] = (values[i] >> shift) ^ 128
        low[row, :] = 0
        high[row, :] = 0
    values[:] = 0


@numba.njit(nogil=True, cache=True)
def _decrypt(start, stop, body, phase, factor, body_bits, phase_bits, rounded, out):
    """Columns of tiles start..stop-1 of `out`: (body - phase) modulo Q times factor[t]; the phases become 0."""
    rows, step, modulus = out.shape[0], 2.0 ** (phase_bits - body_bits), 2.0**phase_bits
    inverse_modulus = 1.0 / modulus
    values = np.empty(CHUNK)
    for tile in range(start, stop):
        column = tile * LANES
        width = min(LANES, out.shape[1] - column)
        for first in range(0, rows, CHUNK_ROWS):
            last = min(rows, first + CHUNK_ROWS)
            load_tile(body[tile], last - first, rows, first, body_bits, values[: (last - first) * LANES])
            for row in range(first, last):
                source, own = values[(row - first) * LANES : (row - first + 1) * LANES], phase[row, column : column + LANES]
                unit = factor[row]
                for v in range(LANES):
                    value = step * source[v] - own[v]
                    source[v] = (value - modulus * np.rint(value * inverse_modulus)) * unit
                own[:] = 0
                target = out[row, column : column + width]
                if rounded:
                    for v in range(width):
                        target[v] = np.rint(source[v])
                else:
                    for v in range(width):
                        target[v] = source[v]
    values[:] = 0
