"""How rarely a value decrypts wrongly: a bound that holds for every weight and message, in place of a normal approximation.

A value is wrong only if its phase error is delta / 2 or more. In units of Q's last bit, for one row under one secret s and one
column w of the weight, of norm ||w|| and with 2^c as largest power of two that divides it, the error is the sum of

  <w, e + r>   e: the errors of K inputs; r: what rounding b by `dropped_bits` adds
  <s, u>       u: what rounding the N coefficients of A w (an answer's mask, or a hint) adds
  v            what rounding the answer's body adds
  f            what is not random: at most `fixed`

Theorem. P(|error| >= x) <= 2 min over t > 0 of exp(-t (x - fixed)) E_1(t) E_2(t) E_3(t), with
  E_1 = exp(t^2 ||w||^2 (3.2^2 + variance of r) / 2),
  E_2 = (1/3 + 2/3 R_u(t))^N,   E_3 = R_v(t),
where R(t) = cosh(2^c t / 2) * product over c <= i < b of cosh(2^i t / 2) is the moment generating function of what rounding a
uniform multiple of 2^c to a multiple of 2^b adds, halves to even (a sum of independent signs; b bits are rounded away).

Assumed: masks are uniform (AES-CTR is pseudorandom; nothing more enters, RLWE does not), secrets uniform ternary, errors of the
discrete Gaussian. Weights and messages are arbitrary; no rounding error is *assumed* to be uniform or independent:

1. y = A s, one coefficient for each input, is uniform modulo Q, because s has an odd coefficient unless it is 0 (3^-N). So for
   given e and messages, r and the upper bits of b are uniform and independent of each other; v is a function of these upper
   bits, and uniform as said above because some entry of w is 2^c times an odd number. For session masks, an error's parity
   rounds halves of r; that is independent of e but for 2 exp(-pi^2 3.2^2 / 2) = 2^-71.9.
2. In a basis with s and w / 2^c as first vectors, A s is the first column and A w / 2^c the first row of a uniform matrix: they
   share one entry. So for given y, and with it e, r and v, all u but that of one i with s_i = +-1 are uniform and independent;
   that one is at most half a step, which `fixed` contains. E_2 is the mean over s.
3. Chernoff: P(z >= x) <= exp(-t x) E exp(t z), and R is symmetric. cosh(a) <= exp(a^2 / 2), so R(t) <= exp(t^2 variance / 2):
   rounding errors are strictly sub-Gaussian, and so is e, with parameter 3.2 (Micciancio, Peikert, EUROCRYPT 2012, lemma 2.8).
4. R grows with c, up to c = b - 1: the bound at the most common bits of any column holds for all.

The union bound over values needs no independence between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba

RUN_FAILURE_LOG2 = -40
"""log2 of the largest probability with which any value of a run may be wrong where its answers are called exact."""
# For what the proof leaves out: the rounded probabilities of the sampler's table (errors of 2^-128 each; they matter only where
# one weight outweighs all others), the parity of point 1 for 2^17 inputs, and float64 here. Together less than this down
# to 2^-256.
_SLACK_BITS = 0.25
_STEPS = 30


@dataclass(frozen=True)
class PhaseError:
    """The error of one value's phase, in units of Q's last bit.

    gaussian: variance of <w, e + r>. mask, body: of the roundings of A w and of the answer's body, c and b of the theorem.
    ring_size: N. fixed: most of what is not random.
    """

    gaussian: float
    mask: tuple[int, int]
    body: tuple[int, int]
    ring_size: int
    fixed: float

    def failure_log2(self, size: float) -> float:
        """log2 of a bound on P(|error| >= size); -inf where that is impossible."""
        return min(0.0, _tail(size - self.fixed, *self._terms) + _SLACK_BITS)

    def largest(self, failure_log2: float) -> float:
        """What |error| reaches or exceeds with a probability of at most 2^failure_log2."""
        return self.fixed + _quantile(math.log(2) * (1 + _SLACK_BITS - failure_log2), *self._terms)

    @property
    def _terms(self) -> tuple:
        return float(self.gaussian), *self.mask, *self.body, self.ring_size


def sigmas(failure_log2: float) -> float:
    """z with 2 exp(-z^2 / 2) = 2^failure_log2: how many times its parameter a sub-Gaussian error exceeds so rarely."""
    return math.sqrt(2 * math.log(2) * (1 - failure_log2))


@numba.njit(cache=True)
def _rounding(t, common, bits):
    """ln R(t) and its derivative."""
    value = slope = 0.0
    if bits > 0:
        common = min(common, bits - 1)
        for i in range(common, bits + 1):
            half = 2.0 ** (i if i < bits else common) / 2
            value += half * t + math.log1p(math.exp(-2 * half * t)) - math.log(2.0)
            slope += half * math.tanh(half * t)
    return value, slope


@numba.njit(cache=True)
def _log_mgf(t, gaussian, mask_common, mask_bits, body_common, body_bits, ring_size):
    """ln(E_1 E_2 E_3) at t > 0, and its derivative."""
    mask, mask_slope = _rounding(t, mask_common, mask_bits)
    body, body_slope = _rounding(t, body_common, body_bits)
    share = (2 + math.exp(-mask)) / 3
    value = gaussian * t * t / 2 + body + ring_size * (mask + math.log(share))
    return value, gaussian * t + body_slope + ring_size * mask_slope * 2 / (3 * share)


@numba.njit(cache=True)
def _tail(size, *terms):
    """log2 of 2 min exp(-t size) E(t): where the derivative of ln E is `size`, by bisection. Any t gives a bound that holds."""
    if size <= 0:
        return 1.0
    low, high = 0.0, 1 / size
    while _log_mgf(high, *terms)[1] < size:
        if high * size > 1e9:
            return -math.inf  # beyond all that the errors can add up to
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_mgf(middle, *terms)[1] < size else (low, middle)
    return 1 + (_log_mgf(high, *terms)[0] - high * size) / math.log(2.0)


@numba.njit(cache=True)
def _quantile(nats, *terms):
    """min over t of (nats + ln E(t)) / t: where t times the derivative of ln E, less ln E, is `nats`."""
    low, high = 0.0, 1.0
    while _excess(high, *terms) > nats and high > 1e-30:
        high /= 2
    while _excess(high, *terms) < nats and high < 1e30:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _excess(middle, *terms) < nats else (low, middle)
    return (nats + _log_mgf(high, *terms)[0]) / high


@numba.njit(cache=True)
def _excess(t, *terms):
    value, slope = _log_mgf(t, *terms)
    return t * slope - value
