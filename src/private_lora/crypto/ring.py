"""Products in Z[x]/(x^N + 1), many side by side, through complex transforms in float64.

A polynomial with real coefficients c_0 .. c_(N-1) is folded to c_r + i c_(r+N/2), an element of C[x]/(x^(N/2) - i), which
splits into factors x - root by repeated x^(2h) - u^2 = (x^h - u)(x^h + u). No bit reversal: products are taken in the order in
which the splitting leaves the factors.

A block holds LANES polynomials side by side, flat: N/2 rows of LANES real parts and LANES imaginary parts. So coefficients lie
in the order c_0, c_(N/2), c_1, c_(N/2+1), ...: "packed order" below. Inner loops run over lanes, at distances that are known
when they are compiled: that is what makes them vector loops.
"""

from __future__ import annotations

import math
from functools import cache

import numba
import numpy as np

from private_lora.core.secrets import wipe

LANES = 32
ROW = 2 * LANES
# Integers of this many signed bits, less log2 N, times a ternary polynomial round to the exact integers: the error of the
# transforms then has a standard deviation of 1/30 or less, measured, and 1/2 is allowed.
_EXACT_BITS = 53
# Rows of a part that is transformed to the end before the next: it fits a level-1 cache.
_PART_ROWS = 64


def exact_bits(ring_size: int) -> int:
    """Widest random signed integers whose product with a random ternary polynomial is exact: 42 bits for N = 2048."""
    return _EXACT_BITS - (ring_size.bit_length() - 1)


@cache
def roots(ring_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of the root u at each node of the splitting, in heap order (node 1 is the whole ring)."""
    nodes = ring_size // 2
    angles = np.zeros(2 * nodes)
    angles[1] = math.pi / 2
    for node in range(1, nodes):
        angles[2 * node] = angles[node] / 2
        angles[2 * node + 1] = angles[node] / 2 + math.pi
    return np.cos(angles[:nodes] / 2), np.sin(angles[:nodes] / 2)


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def forward(block, root_re, root_im):
    """Values at all roots, in place."""
    rows = block.size // ROW
    nodes, size = 1, rows
    if _odd_levels(rows):
        _split2(block, size, 0, root_re[1], root_im[1])
        nodes, size = 2, rows // 2
    while size > _PART_ROWS:
        for node in range(nodes):
            _split4(block, size, node * size, nodes + node, root_re, root_im)
        nodes, size = 4 * nodes, size // 4
    for part in range(nodes):
        inside, length = 1, size
        while length > 1:
            for node in range(part * inside, (part + 1) * inside):
                _split4(block, length, node * length, nodes * inside + node, root_re, root_im)
            inside, length = 4 * inside, length // 4


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def inverse(block, root_re, root_im):
    """Folded polynomials times N/2 from their values at all roots, in place."""
    rows = block.size // ROW
    size = rows // 2 if _odd_levels(rows) else rows
    while size > _PART_ROWS:
        size //= 4
    nodes = rows // size
    for part in range(nodes):
        inside, length = size // 4, 4
        while inside >= 1:
            for node in range(part * inside, (part + 1) * inside):
                _join4(block, length, node * length, nodes * inside + node, root_re, root_im)
            inside, length = inside // 4, 4 * length
    while nodes >= 4:
        nodes, size = nodes // 4, 4 * size
        for node in range(nodes):
            _join4(block, size, node * size, nodes + node, root_re, root_im)
    if nodes == 2:
        _join2(block, rows, 0, root_re[1], root_im[1])


@numba.njit(nogil=True, cache=True)
def _odd_levels(rows):
    """Whether `rows` is two times a power of four."""
    while rows > 2:
        rows //= 4
    return rows == 2


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _split2(block, rows, first, root_re, root_im):
    """One level: a node of `rows` rows to its two children."""
    half = rows // 2
    for row in range(first, first + half):
        low, high = block[row * ROW : (row + 1) * ROW], block[(row + half) * ROW : (row + half + 1) * ROW]
        for v in range(LANES):
            re = high[v] * root_re - high[v + LANES] * root_im
            im = high[v] * root_im + high[v + LANES] * root_re
            high[v], high[v + LANES] = low[v] - re, low[v + LANES] - im
            low[v], low[v + LANES] = low[v] + re, low[v + LANES] + im


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _join2(block, rows, first, root_re, root_im):
    """The inverse of `_split2`, times 2."""
    half = rows // 2
    for row in range(first, first + half):
        low, high = block[row * ROW : (row + 1) * ROW], block[(row + half) * ROW : (row + half + 1) * ROW]
        for v in range(LANES):
            re, im = low[v] - high[v], low[v + LANES] - high[v + LANES]
            low[v], low[v + LANES] = low[v] + high[v], low[v + LANES] + high[v + LANES]
            high[v], high[v + LANES] = re * root_re + im * root_im, im * root_re - re * root_im


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _split4(block, rows, first, node, root_re, root_im):
    """Two levels: a node of `rows` rows, which begins at row `first`, to its four grandchildren."""
    u_re, u_im = root_re[node], root_im[node]
    s_re, s_im = root_re[2 * node], root_im[2 * node]
    t_re, t_im = root_re[2 * node + 1], root_im[2 * node + 1]
    at, span = first * ROW, rows // 4 * ROW
    first_rows, second_rows = block[at : at + span], block[at + span : at + 2 * span]
    third_rows, fourth_rows = block[at + 2 * span : at + 3 * span], block[at + 3 * span : at + 4 * span]
    for row in range(0, span, ROW):
        a, b = first_rows[row : row + ROW], second_rows[row : row + ROW]
        c, d = third_rows[row : row + ROW], fourth_rows[row : row + ROW]
        for v in range(LANES):
            c_re, c_im = c[v] * u_re - c[v + LANES] * u_im, c[v] * u_im + c[v + LANES] * u_re
            d_re, d_im = d[v] * u_re - d[v + LANES] * u_im, d[v] * u_im + d[v + LANES] * u_re
            e_re, e_im, f_re, f_im = a[v] - c_re, a[v + LANES] - c_im, b[v] - d_re, b[v + LANES] - d_im
            a_re, a_im, b_re, b_im = a[v] + c_re, a[v + LANES] + c_im, b[v] + d_re, b[v + LANES] + d_im
            g_re, g_im = b_re * s_re - b_im * s_im, b_re * s_im + b_im * s_re
            h_re, h_im = f_re * t_re - f_im * t_im, f_re * t_im + f_im * t_re
            a[v], a[v + LANES], b[v], b[v + LANES] = a_re + g_re, a_im + g_im, a_re - g_re, a_im - g_im
            c[v], c[v + LANES], d[v], d[v + LANES] = e_re + h_re, e_im + h_im, e_re - h_re, e_im - h_im


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _join4(block, rows, first, node, root_re, root_im):
    """The inverse of `_split4`, times 4."""
    u_re, u_im = root_re[node], root_im[node]
    s_re, s_im = root_re[2 * node], root_im[2 * node]
    t_re, t_im = root_re[2 * node + 1], root_im[2 * node + 1]
    at, span = first * ROW, rows // 4 * ROW
    first_rows, second_rows = block[at : at + span], block[at + span : at + 2 * span]
    third_rows, fourth_rows = block[at + 2 * span : at + 3 * span], block[at + 3 * span : at + 4 * span]
    for row in range(0, span, ROW):
        a, b = first_rows[row : row + ROW], second_rows[row : row + ROW]
        c, d = third_rows[row : row + ROW], fourth_rows[row : row + ROW]
        for v in range(LANES):
            g_re, g_im, h_re, h_im = a[v] - b[v], a[v + LANES] - b[v + LANES], c[v] - d[v], c[v + LANES] - d[v + LANES]
            a_re, a_im, c_re, c_im = a[v] + b[v], a[v + LANES] + b[v + LANES], c[v] + d[v], c[v + LANES] + d[v + LANES]
            b_re, b_im = g_re * s_re + g_im * s_im, g_im * s_re - g_re * s_im
            d_re, d_im = h_re * t_re + h_im * t_im, h_im * t_re - h_re * t_im
            e_re, e_im, f_re, f_im = a_re - c_re, a_im - c_im, b_re - d_re, b_im - d_im
            a[v], a[v + LANES], b[v], b[v + LANES] = a_re + c_re, a_im + c_im, b_re + d_re, b_im + d_im
            c[v], c[v + LANES] = e_re * u_re + e_im * u_im, e_im * u_re - e_re * u_im
            d[v], d[v + LANES] = f_re * u_re + f_im * u_im, f_im * u_re - f_re * u_im


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def multiply(block, spectrum, out):
    """Pointwise product of a transformed block with one transformed factor (N/2 x 2), divided by N/2 for the inverse."""
    unit = 1.0 / spectrum.shape[0]
    for row in range(spectrum.shape[0]):
        a, b = spectrum[row, 0] * unit, spectrum[row, 1] * unit
        source, target = block[row * ROW : (row + 1) * ROW], out[row * ROW : (row + 1) * ROW]
        for v in range(LANES):
            re, im = source[v], source[v + LANES]
            target[v] = re * a - im * b
            target[v + LANES] = re * b + im * a


def transform(polynomials: np.ndarray) -> np.ndarray:
    """Values of polynomials (B x N, real, packed order) at all roots: B x N/2 x 2, real and imaginary parts."""
    size = polynomials.shape[1]
    spectra, block = np.empty((len(polynomials), size // 2, 2)), np.empty((size, LANES))
    try:
        for start in range(0, len(polynomials), LANES):
            part = polynomials[start : start + LANES]
            block[:, : len(part)], block[:, len(part) :] = part.T, 0
            forward(block.ravel(), *roots(size))
            spectra[start : start + LANES] = block.reshape(-1, 2, LANES)[:, :, : len(part)].transpose(2, 0, 1)
    finally:
        wipe(block)
    return spectra


def packed_order(ring_size: int) -> np.ndarray:
    """Exponent of x at each place of the packed order."""
    return np.arange(ring_size).reshape(2, -1).T.ravel()


def negacyclic_products(columns: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Each column (N x C integers of at most `exact_bits` bits) times `factor` (N, ternary) mod x^N + 1, exact int64.

    Both, and the result, in packed order.
    """
    ring_size, count = columns.shape
    spectrum = transform(factor[None])[0]
    products = np.empty((ring_size, count), np.int64)
    for start in range(0, count, LANES):
        block = np.zeros((ring_size, LANES))
        block[:, : min(LANES, count - start)] = columns[:, start : start + LANES]
        flat = block.ravel()
        forward(flat, *roots(ring_size))
        multiply(flat, spectrum, flat)
        inverse(flat, *roots(ring_size))
        products[:, start : start + LANES] = np.rint(block)[:, : count - start]
    return products
