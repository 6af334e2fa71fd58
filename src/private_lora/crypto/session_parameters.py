"""Parameters of questions under a session's mask: one mask for many secrets, so that a question is a body alone.

(a, a s_1 + e_1, a s_2 + e_2, ...) is RLWE with many secrets (SimplePIR, ePrint 2022/949, corollary C.3; HintlessPIR, 2023/1733,
lemma 11): a hybrid over them costs log2 of their number in bits. The caps on log2 Q are lowered by as much, so that the bound
of the proof, not only the best known attack, is at 128 bits in the cost model that decides.

The client knows A W, the *hint*, and keeps its upper `mask_bits`. It subtracts (A W) s by itself, so an answer is a body alone.
The ring size then changes neither messages nor the server's work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from private_lora.crypto.estimator import ERROR_STD
from private_lora.crypto.failure import sigmas
from private_lora.crypto.parameters import (
    LARGEST_LOG2_Q,
    LARGEST_MASK_BITS,
    SWITCH_SHARE,
    PackedParameters,
    rounding_variance,
    smallest_ring,
    spare_bits,
    too_large,
)
from private_lora.crypto.security import SECURITY_BITS, security_caps

SECRETS_LOG2 = 20
"""log2 of how many secrets one mask may have: the limit that the client keeps, and the bits that the hybrid costs."""
MOST_DROPPED_BITS = 12
# Of the client's own part of an answer, (A W) s: 32 bits where answers have at most this many.
_SHORT_ANSWER_BITS = 28
_SHORT_PHASE_BITS = 32


def session_caps(table: str) -> dict[int, int]:
    """Largest log2 Q by ring size that leaves 128 bits in that cost model after a hybrid over 2^SECRETS_LOG2 secrets."""
    return security_caps(table, SECURITY_BITS + SECRETS_LOG2)


@dataclass(frozen=True)
class SessionParameters(PackedParameters):
    """As PackedParameters; raises ValueError beyond `session_caps`. delta is a multiple of 2^dropped_bits, or 0.

    mask_bits: upper bits of the hint that are kept. phase_bits: of (A W) s, as the client keeps it until the answer comes.
    """

    phase_bits: int = _SHORT_PHASE_BITS

    @staticmethod
    def caps(table: str) -> dict[int, int]:
        return session_caps(table)

    @property
    def hybrid_bits(self) -> int:
        return SECRETS_LOG2

    @property
    def sent(self) -> tuple[int, ...]:
        """What a message says of them: the server needs no more."""
        return self.upload_bits, self.body_bits

    @property
    def pad_dropped_bits(self) -> int:
        """Bits that a pad is without before a message is added. A message at a scale of its own is no multiple of what is
        uploaded: its sum with the pad is rounded, so that the error of that is random whatever the message.
        """
        return self.dropped_bits if self.delta else 0

    def noise_variance(self, column_norm):
        """Variance of the phase error in units of Q's last bit, for columns of L2 norm `column_norm`, a number or an array."""
        error = ERROR_STD**2 + rounding_variance(self.dropped_bits)
        if not self.delta:
            error += 1 / 12  # the scaled message is rounded to an integer
        hint = rounding_variance(self.log2_q - self.mask_bits, self.common_bits) * 2 * self.ring_size / 3
        phase = rounding_variance(max(0, self.log2_q - self.phase_bits))
        return np.square(column_norm) * error + hint + phase + self.body_variance

    @property
    def fixed_error(self) -> float:
        """As of PackedParameters, and half a step of the client's own part, if that is rounded."""
        rounded = self.phase_bits < self.mask_bits
        return super().fixed_error + (2.0 ** (self.log2_q - self.phase_bits) / 2 if rounded else 0.0)

    def report(self, column_norm: float) -> dict:
        """As of PackedParameters, with what many secrets under one mask cost in the proof."""
        return super().report(column_norm) | {
            "mask": "session",
            "secrets_log2": SECRETS_LOG2,
            "upload_bits_per_value": self.upload_bits,
            "download_bits_per_value": self.body_bits,
        }


@cache
def choose_session_exact(
    bound: int, column_norm: float, failure_log2: float, table: str, common_bits: int = 0
) -> SessionParameters:
    """Smallest ring, then fewest byte planes, then fewest bits up and down, then smallest Q.

    Failures are rarer than 2^failure_log2. bound: largest |output|. column_norm: largest L2 norm of a weight column. Raises
    ValueError, one sentence, if nothing fits.
    """
    for ring_size, cap in session_caps(table).items():
        found = [
            short
            for p in _candidates(ring_size, min(cap, LARGEST_LOG2_Q), bound, column_norm, failure_log2, table, common_bits)
            if (short := _shortest(p, bound, lambda q: q.failure_log2(column_norm) <= failure_log2))
        ]
        if found:
            return min(found, key=lambda p: (p.body_planes, p.upload_bits + p.body_bits, p.log2_q, p.mask_bits))
    raise too_large(bound, column_norm, failure_log2, table)


def _candidates(ring_size, largest, bound, column_norm, failure_log2, table, common_bits):
    """Whole answers by dropped bits, at the smallest modulus that could do and the two above."""
    answer_bits = math.log2(2 * bound + 1)
    for dropped in range(MOST_DROPPED_BITS + 1):
        std = math.sqrt(ERROR_STD**2 + rounding_variance(dropped)) * max(column_norm, 1.0)
        least = max(2, dropped + 1, math.floor(answer_bits + math.log2(2 * sigmas(failure_log2) * std)))
        for log2_q in range(least, min(largest, least + 2) + 1):
            delta = (2**log2_q // (2 * bound + 1)) >> dropped << dropped
            if delta:
                mask_bits = min(log2_q, LARGEST_MASK_BITS)
                phase_bits = _SHORT_PHASE_BITS if answer_bits <= _SHORT_ANSWER_BITS else mask_bits
                bits = dropped, mask_bits, log2_q - dropped
                yield SessionParameters(ring_size, log2_q, delta, *bits, table, common_bits, phase_bits)


def _shortest(p: SessionParameters, bound: int, fits) -> SessionParameters | None:
    """`p` with the shortest body that fits, then the shortest hint; None if nothing fits."""
    if not fits(p):
        return None
    least = max(1, math.ceil(math.log2(2 * bound + 1))) if bound else 1
    bodies = (replace(p, body_bits=bits) for bits in range(min(least, p.body_bits), p.body_bits + 1))
    p = next(body for body in bodies if fits(body))
    return _shortest_hint(p, fits)


def _shortest_hint(p: SessionParameters, fits) -> SessionParameters:
    low, high = 0, p.mask_bits  # wider hints only add precision: the smallest that fits is found by bisection
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(replace(p, mask_bits=middle)) else (middle, high)
    return replace(p, mask_bits=high)


def choose_session_approximate(log2_q: int, column_norm: float, table: str, common_bits: int = 0) -> SessionParameters:
    """Smallest ring for `log2_q`; body, then hint as short as adding a tenth to the error's variance allows.

    Raises ValueError if no ring allows such a modulus.
    """
    ring_size = smallest_ring(log2_q, session_caps(table), table)
    dropped = spare_bits(log2_q)
    bits = dropped, min(log2_q, LARGEST_MASK_BITS), log2_q - dropped
    whole = SessionParameters(ring_size, log2_q, 0, *bits, table, common_bits)
    variance = whole.noise_variance(column_norm)

    def adds_at_most(share):
        return lambda p: p.noise_variance(column_norm) <= (1 + share) * variance

    bodies = (replace(whole, body_bits=bits) for bits in range(1, whole.body_bits + 1))
    short = next(body for body in bodies if adds_at_most(SWITCH_SHARE / 2)(body))
    return _shortest_hint(short, adds_at_most(SWITCH_SHARE))
