"""Quantizers: float32 matrices to signed integers of 2 to 16 bits, scales and zero points, and back.

Formulas: Concrete ML 1.9.0, `linear_op_glwe_backend.py` (dynamic per token, static per channel), in float32 and in its
order of operations, so that both give the same integers. An unsigned quantizer of n bits is shifted by 2^(n-1), so that
every backend sees signed integers: x ~ (values - zero_point) * scale, values in [-2^(n-1), 2^(n-1) - 1].

Constant rows are where we differ. A row whose values are all c has no range; the reference gives it scale 1, so that a row of
zero gradient comes back from a noisy scheme as noise times the weight scale. With `constant_rows="exact"` such a row is
stored as sign(c) * 2^(n-2) with scale |c| / 2^(n-2) and zero point 0: c exactly, and for c = 0 a scale of 0, which the client
multiplies with whatever noise it decrypts. `constant_rows="reference"` reproduces the scale of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from private_lora.core.names import load_object
from private_lora.crypto.parallel import in_ranges
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Quantized:
    """Signed integers with their scale and zero point: x ~ (values - zero_point) * scale.

    values: int8 (up to 8 bits) or int16, R x C.
    scale (float32), zero_point (int64): R x 1 for activations, 1 x C for weights.
    """

    values: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    bits: int

    @cached_property
    def column_sums(self) -> np.ndarray:
        """Sum of the integers over the rows, int64, 1 x C; public for a weight."""
        return self.values.sum(axis=0, keepdims=True, dtype=np.int64)

    @property
    def terms(self) -> OutputTerms:
        """What the client needs of a quantized weight, without its integers."""
        return OutputTerms(self.values.shape[0], self.scale, self.zero_point, self.column_sums)

    def dequantize(self) -> np.ndarray:
        """The float32 matrix that the integers stand for, R x C."""
        return (self.values - self.zero_point).astype(np.float32) * self.scale


@dataclass(frozen=True)
class OutputTerms:
    """Scale, zero point and column sum (each 1 x D) of the outputs of a quantized weight of so many inputs. All are public."""

    inputs: int
    scale: np.ndarray
    zero_point: np.ndarray
    column_sums: np.ndarray


def quantize_activations(
    x: np.ndarray,
    bits: int,
    quantizer: str,
    constant_rows: str = "exact",
    calibrated_range: tuple[float, float] | None = None,
) -> Quantized:
    """Rows of float32 activations or gradients (T x K), quantized for the server.

    quantizer: of `specs.quantizers.ACTIVATION_QUANTIZERS`. calibrated_range: from a pass before, for those that need one;
    values outside are clamped.
    Raises FloatingPointError when x holds a value that is not finite, ValueError on an unknown quantizer.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    if quantizer not in ACTIVATION_QUANTIZERS:
        raise ValueError(f"unknown activation quantizer {quantizer!r}")
    low, high = _row_ranges(x)
    if not np.isfinite(high - low).all():
        raise FloatingPointError("activations to quantize are not finite: the run has diverged")
    kind = ACTIVATION_QUANTIZERS[quantizer]
    if kind.calibrated and calibrated_range is None:
        raise ValueError(f"{quantizer} needs a calibrated range: run the calibration pass first")
    ranges = load_object(kind.ranges)(low, high, calibrated_range)
    values, scale, zero_point = _quantize(x, low, high, *ranges, bits, kind.symmetric, constant_rows)
    return Quantized(values, scale[:, None], zero_point[:, None], bits)


def quantize_weight(weight: np.ndarray, bits: int, quantizer: str, constant_rows: str = "exact") -> Quantized:
    """A float32 weight (K x D, inputs x outputs), quantized once, one scale per output or one for all.

    quantizer: of `specs.quantizers.WEIGHT_QUANTIZERS`. Raises ValueError on another name and FloatingPointError when the weight
    is not finite.
    """
    columns = np.ascontiguousarray(np.asarray(weight, dtype=np.float32).T)
    if quantizer not in WEIGHT_QUANTIZERS:
        raise ValueError(f"unknown weight quantizer {quantizer!r}")
    low, high = _row_ranges(columns)
    if not np.isfinite(high - low).all():
        raise FloatingPointError("the weight to quantize is not finite")
    kind = WEIGHT_QUANTIZERS[quantizer]
    ranges = load_object(kind.ranges)(low, high, None)
    values, scale, zero_point = _quantize(columns, low, high, *ranges, bits, kind.symmetric, constant_rows)
    return Quantized(np.ascontiguousarray(values.T), scale[None, :], zero_point[None, :], bits)


def range_of_each_row(low, high, calibrated):
    """Smallest and largest value (each R) that the integers of a row stand for: its own."""
    return low, high


def range_of_all_rows(low, high, calibrated):
    """The same of all rows."""
    return np.full_like(low, low.min()), np.full_like(high, high.max())


def range_from_calibration(low, high, calibrated):
    """The same as a calibration pass found it."""
    return tuple(np.full_like(low, edge) for edge in calibrated)


def concatenate_outputs(weights: list[Quantized]) -> Quantized:
    """Quantized weights of the same inputs and bits side by side, each with its own scales and zero points."""
    if len(weights) == 1:
        return weights[0]
    columns = {name: np.concatenate([getattr(w, name) for w in weights], axis=1) for name in ("values", "scale", "zero_point")}
    return Quantized(**columns, bits=weights[0].bits)


def dequantize_product(product: np.ndarray, x: Quantized, weight: OutputTerms) -> np.ndarray:
    """float32 x W (T x D) from the server's integer product of the shifted integers (T x D, int32 or int64).

    The client takes off what the zero points added: sum_k (x - z_x)(w - z_w) = product - z_w sum(x) - z_x sum(w) + K z_x z_w.
    """
    rows, out = len(product), np.empty(product.shape, np.float32)
    if not x.zero_point.any() and not weight.zero_point.any():
        in_ranges(_scale_symmetric, rows, product, x.scale[:, 0], weight.scale[0], out)
        return out
    row_sums = np.empty(rows, np.int64)
    in_ranges(_sum_rows, rows, x.values, row_sums)
    activations = row_sums, x.zero_point[:, 0], x.scale[:, 0]
    corrected_sums = weight.column_sums[0] - weight.inputs * weight.zero_point[0]
    in_ranges(_scale_affine, rows, product, *activations, corrected_sums, weight.zero_point[0], weight.scale[0], out)
    return out


def value_range(x: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value, as the calibration pass records them."""
    return float(x.min()), float(x.max())


def _row_ranges(x):
    """Smallest and largest value of each row (float32, R each); NaN wherever a row holds one."""
    low, high = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    in_ranges(_find_ranges, len(x), x, low, high)
    return low, high


def _quantize(x, low, high, range_low, range_high, bits, symmetric, constant_rows):
    """Values (R x C), scale (R), zero point (R) of rows with the given ranges; rows that are constant as the mode says."""
    scale, zero_point = _affine_parameters(range_low, range_high, bits, symmetric)
    dtype = np.int8 if bits <= 8 else np.int16
    values = np.empty(x.shape, dtype)
    constant = high == low
    degenerate = scale < SMALLEST_SCALE
    scale[degenerate] = np.float32(1)
    if constant_rows == "reference":
        zero_point[degenerate] = _shifted(np.rint(-range_low[degenerate]), bits, symmetric)
    in_ranges(_round_rows, len(x), x, scale, zero_point, bits, symmetric, values)
    if constant_rows != "reference":
        _store_constant_rows(values, scale, zero_point, low, high, constant | degenerate, bits)
    return values, scale, zero_point


def _affine_parameters(low, high, bits, symmetric):
    """Scale (float32) and shifted zero point (int64) of each row, before constant rows are seen to."""
    if symmetric:
        largest = np.maximum(np.abs(low), np.abs(high))
        return largest / np.float32(2 ** (bits - 1) - 1), np.zeros(len(low), np.int64)
    scale = (high - low) / np.float32(2**bits - 1)
    safe = np.where(scale < SMALLEST_SCALE, np.float32(1), scale)
    return scale, _shifted(np.rint(-low / safe), bits, symmetric)


def _shifted(zero_point, bits, symmetric):
    """The zero point of the unsigned quantizer, moved with its values by 2^(bits-1)."""
    return zero_point.astype(np.int64) - (0 if symmetric else 2 ** (bits - 1))


def _store_constant_rows(values, scale, zero_point, low, high, rows, bits) -> None:
    """Write the rows that have no range so that scale * values gives their value back, to the last bit."""
    unit = 2 ** (bits - 2)
    for r in np.flatnonzero(rows):
        constant = low[r] if abs(low[r]) > abs(high[r]) else high[r]
        values[r] = int(np.sign(constant)) * unit
        scale[r] = np.float32(abs(constant)) / np.float32(unit)
        zero_point[r] = 0


# Kernels take a range of rows and fill their last arguments, so that all threads share the rows; a row is one thread's alone.


@numba.njit(nogil=True, cache=True)
def _find_ranges(start, stop, x, low, high):
    """Smallest and largest value of each row (float32); NaN wherever a row holds one."""
    for r in range(start, stop):
        smallest, largest, total = x[r, 0], x[r, 0], np.float32(0)
        for c in range(x.shape[1]):
            value = x[r, c]
            smallest = min(smallest, value)
            largest = max(largest, value)
            total += value * np.float32(0)  # NaN and infinity survive here, and only here
        low[r] = smallest + total
        high[r] = largest + total


@numba.njit(nogil=True, cache=True)
def _round_rows(start, stop, x, scale, zero_point, bits, symmetric, values):
    """Fill `values` with clamp(round(x / scale) + zero_point), rounding half to even in float32 as torch does."""
    top = np.float32(2 ** (bits - 1) - 1)
    bottom = -top if symmetric else -top - np.float32(1)
    for r in range(start, stop):
        shift = np.float32(2 ** (bits - 1))
        step = scale[r]
        # The reference adds the unsigned zero point in float32 and clamps there; the shift comes last.
        zero = np.float32(zero_point[r]) if symmetric else np.float32(zero_point[r] + 2 ** (bits - 1))
        for c in range(x.shape[1]):
            level = np.rint(x[r, c] / step) + zero
            if not symmetric:
                level -= shift
            values[r, c] = np.int32(min(max(level, bottom), top))


@numba.njit(nogil=True, cache=True)
def _sum_rows(start, stop, values, sums):
    """Sums of rows, int64."""
    for r in range(start, stop):
        total = np.int64(0)
        for c in range(values.shape[1]):
            total += values[r, c]
        sums[r] = total


@numba.njit(nogil=True, cache=True)
def _scale_affine(start, stop, product, row_sums, x_zero, x_scale, corrected_sums, w_zero, w_scale, out):
    """Rows of an integer product (int32 or int64), less what zero points added, in units of both scales."""
    for r in range(start, stop):
        for c in range(product.shape[1]):
            exact = product[r, c] - w_zero[c] * row_sums[r] - x_zero[r] * corrected_sums[c]
            out[r, c] = np.float32(exact) * (x_scale[r] * w_scale[c])


@numba.njit(nogil=True, cache=True)
def _scale_symmetric(start, stop, product, x_scale, w_scale, out):
    """The same without zero points."""
    for r in range(start, stop):
        for c in range(product.shape[1]):
            out[r, c] = np.float32(product[r, c]) * (x_scale[r] * w_scale[c])
