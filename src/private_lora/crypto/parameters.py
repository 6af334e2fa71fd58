"""Parameters of token-packed RLWE: chosen from the weights, never typed, and refused beyond the security caps.

T x K integers X are encrypted column by column: m_j(x) = sum_t X[t, j] x^t in Z_Q[x]/(x^N + 1), Q = 2^log2_q, as (a_j, b_j)
with b_j = a_j s + e_j + delta m_j. The server computes A W and B W mod Q; the client takes b' - a' s and rounds (Bae, Cheon,
Hanrot, Park, Stehle, "Plaintext-Ciphertext Matrix Multiplication and FHE Bootstrapping: Fast and Fused", CRYPTO 2024).

Three roundings make messages short: b loses `dropped_bits` before it goes up, and of the answer's mask and body only
`mask_bits` and `body_bits` come down.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np

from private_lora.crypto.estimator import ERROR_STD
from private_lora.crypto.failure import PhaseError, sigmas
from private_lora.crypto.security import COLUMN, SECURITY_BITS, security_caps
from private_lora.crypto.security import report as security_report

# Of one value. A step of Llama-3.2-1B at 2,048 tokens decrypts 2^30 values; with this, any of 2^40 values of a run is wrong
# with a probability of 2^-40 at most (`failure.RUN_FAILURE_LOG2`).
FAILURE_LOG2 = -80
# Residues are int64 with room for carries; no supported pair of bit-widths needs more, as weights go 8 bits at a time.
LARGEST_LOG2_Q = 62
MOST_DROPPED_BITS = 5
# A share of the noise budget: how much the short answer of the approximate mode may add to the variance of its error.
SWITCH_SHARE = 0.1
# Decrypting multiplies an answer's mask with the secret in float64; beyond this many bits, that would add to the noise. Up
# to it, everything that float64 rounds is less than one unit of the last bit of a mask of this width.
LARGEST_MASK_BITS = 47


@dataclass(frozen=True)
class PackedParameters:
    """What both sides agree on. Raises ValueError when the modulus is beyond what `table` allows for the ring size.

    ring_size: N. log2_q: of the modulus. delta: scale of the message in exact mode, 0 where each token has its own.
    dropped_bits: low bits of b that are rounded away before the upload. mask_bits, body_bits: of an answer's a' and b'.
    common_bits: log2 of the largest power of two that divides all of some column of the weight: it makes rounding coarser.
    """

    ring_size: int
    log2_q: int
    delta: int
    dropped_bits: int
    mask_bits: int
    body_bits: int
    table: str = COLUMN
    common_bits: int = 0

    def __post_init__(self):
        caps = self.caps(self.table)
        if self.ring_size not in caps:
            raise ValueError(f"ring size {self.ring_size} is none of {', '.join(map(str, caps))}")
        if not 2 <= self.log2_q <= min(caps[self.ring_size], LARGEST_LOG2_Q):
            raise ValueError(
                f"log2 Q = {self.log2_q} is outside 2 to {min(caps[self.ring_size], LARGEST_LOG2_Q)}, the {self.table} "
                f"{SECURITY_BITS}-bit security cap for N = {self.ring_size}"
            )
        if not 0 <= self.dropped_bits < self.log2_q:
            raise ValueError(f"cannot drop {self.dropped_bits} bits of {self.log2_q}")
        if not (1 <= self.mask_bits <= self.log2_q and 1 <= self.body_bits <= self.upload_bits):
            raise ValueError(f"an answer of {self.mask_bits} and {self.body_bits} bits does not fit a modulus of {self.log2_q}")

    @staticmethod
    def caps(table: str) -> dict[int, int]:
        """Largest log2 Q by ring size that these parameters may have."""
        return security_caps(table)

    @property
    def hybrid_bits(self) -> int:
        """What a proof over all secrets under one mask costs."""
        return 0

    @property
    def sent(self) -> tuple[int, ...]:
        """What a message says of them: all but the message's scale, which is the client's."""
        return self.ring_size, self.log2_q, self.dropped_bits, self.mask_bits, self.body_bits

    @property
    def upload_bits(self) -> int:
        """Bits of one uploaded coefficient of b."""
        return self.log2_q - self.dropped_bits

    @property
    def mask_planes(self) -> int:
        """Byte planes of a: int8 products of the server for the mask."""
        return -(-self.log2_q // 8)

    @property
    def body_planes(self) -> int:
        """Byte planes of b: int8 products of the server for each row."""
        return -(-self.upload_bits // 8)

    def noise_variance(self, column_norm):
        """Variance of the phase error in units of Q's last bit, for columns of L2 norm `column_norm`, a number or an array."""
        error = ERROR_STD**2 + rounding_variance(self.dropped_bits)
        if not self.delta:
            error += 1 / 12  # the scaled message is rounded to an integer
        switched = rounding_variance(self.log2_q - self.mask_bits, self.common_bits) * 2 * self.ring_size / 3
        return np.square(column_norm) * error + switched + self.body_variance

    @property
    def body_variance(self) -> float:
        """Share of the body's rounding on the way down in `noise_variance`."""
        return 4.0**self.dropped_bits * rounding_variance(self.upload_bits - self.body_bits, self.common_bits)

    def phase_error(self, column_norm: float) -> PhaseError:
        """The error of a value's phase, for a column of this L2 norm, without that of a message rounded to an integer."""
        variance = column_norm**2 * (ERROR_STD**2 + rounding_variance(self.dropped_bits))
        mask, body = self.log2_q - self.mask_bits, self.log2_q - self.body_bits
        widths = (self.common_bits, mask), (self.dropped_bits + self.common_bits, body if body > self.dropped_bits else 0)
        return PhaseError(variance, *widths, self.ring_size, self.fixed_error)

    @property
    def fixed_error(self) -> float:
        """Most of a phase error that is not random: the one mask coefficient of `crypto.failure`, and float64."""
        lost = self.log2_q - self.mask_bits
        return (2.0**lost / 2 if lost else 0.0) + 2.0 ** (self.log2_q - LARGEST_MASK_BITS)

    def failure_log2(self, column_norm: float) -> float:
        """log2 of a bound on the probability that one value of such a column decrypts wrongly (exact mode)."""
        return self.phase_error(column_norm).failure_log2(self.delta / 2)

    def report(self, column_norm: float) -> dict:
        """What a table says about these parameters: sizes, noise, failure probability, security by cost model, expansion."""
        variance = float(self.noise_variance(column_norm))
        security = security_report(self.table, self.ring_size, self.log2_q, self.hybrid_bits)
        return (
            asdict(self)
            | security
            | {
                "mask": "fresh",
                "error_std": ERROR_STD,
                "noise_bits": math.log2(variance) / 2 if variance else None,
                "failure_log2": self.failure_log2(column_norm) if self.delta else None,
                "upload_bits_per_value": 8 * self.body_planes,
                "download_bits_per_value": self.mask_bits + self.body_bits,
            }
        )


def rounding_variance(bits: int, common_bits: int = 0) -> float:
    """Variance of what rounding to a multiple of 2^bits adds to uniform multiples of 2^common_bits, halves to even multiples.

    The integers are rounded more coarsely, the fewer of them there are between two multiples: with common_bits = bits - 1 the
    variance is one and a half times that of a uniform error.
    """
    return (4.0**bits + 2 * 4.0 ** min(bits, common_bits)) / 12 if bits else 0.0


@cache
def choose_exact(bound: int, column_norm: float, failure_log2: float, table: str, common_bits: int = 0) -> PackedParameters:
    """Smallest ring, then fewest byte planes, then smallest Q, then shortest answer, with failures rarer than 2^failure_log2.

    bound: largest |output|. column_norm: largest L2 norm of a weight column. Raises ValueError, one sentence, if nothing fits.
    """
    for ring_size, cap in security_caps(table).items():
        moduli = range(2, min(cap, LARGEST_LOG2_Q) + 1)
        whole = (p for q in moduli for p in _whole_answers(ring_size, q, bound, table, common_bits))
        fitting = [p for p in whole if _fits(p, column_norm, failure_log2)]
        if fitting:
            best = min(fitting, key=lambda p: (p.mask_planes + p.body_planes, p.log2_q, p.dropped_bits))
            return _shortest_answer(best, column_norm, failure_log2)
    raise too_large(bound, column_norm, failure_log2, table)


def too_large(bound: int, column_norm: float, failure_log2: float, table: str) -> ValueError:
    """The error that says that no modulus is large enough."""
    needed = math.log2(2 * bound + 1) + math.log2(2 * sigmas(failure_log2) * ERROR_STD * max(1.0, column_norm))
    return ValueError(
        f"exact decryption needs log2 Q of about {needed:.0f} and at most {LARGEST_LOG2_Q} are possible under the {table} "
        "security caps: use fewer bits or fewer inputs"
    )


def choose_approximate(log2_q: int, column_norm: float, table: str, common_bits: int = 0) -> PackedParameters:
    """Smallest ring for `log2_q`, messages as short as adding a tenth to the error's variance allows.

    Raises ValueError if no ring allows such a modulus.
    """
    ring_size = smallest_ring(log2_q, security_caps(table), table)
    dropped = spare_bits(log2_q)
    mask_bits = min(log2_q, LARGEST_MASK_BITS)
    whole = PackedParameters(ring_size, log2_q, 0, dropped, mask_bits, log2_q - dropped, table, common_bits)
    allowed = (1 + SWITCH_SHARE) * whole.noise_variance(column_norm)
    return _shortest(whole, lambda p: p.noise_variance(column_norm) <= allowed)


def smallest_ring(log2_q: int, caps: dict[int, int], table: str) -> int:
    """The smallest ring whose cap allows log2_q; raises ValueError if none does."""
    ring_size = next((n for n, cap in caps.items() if log2_q <= cap), None)
    if ring_size is None or not 8 <= log2_q <= LARGEST_LOG2_Q:
        raise ValueError(f"log2_q must be from 8 to {LARGEST_LOG2_Q} and under the {table} security caps, not {log2_q}")
    return ring_size


def spare_bits(log2_q: int) -> int:
    """Bits to drop from b in the approximate mode: what exceeds a whole byte, which saves the server a product of its own.

    Dropping more than 2 would double the noise.
    """
    return log2_q % 8 if log2_q % 8 <= 2 else 0


def _whole_answers(ring_size: int, log2_q: int, bound: int, table: str, common_bits: int):
    """Parameters at the largest possible delta, by dropped bits, nothing rounded on the way down but what float64 asks for."""
    delta = 2**log2_q // (2 * bound + 1)
    for dropped in range(min(MOST_DROPPED_BITS, log2_q - 1) + 1 if delta else 0):
        mask_bits = min(log2_q, LARGEST_MASK_BITS)
        yield PackedParameters(ring_size, log2_q, delta, dropped, mask_bits, log2_q - dropped, table, common_bits)


def _fits(p: PackedParameters, column_norm: float, failure_log2: float) -> bool:
    return p.failure_log2(column_norm) <= failure_log2


def _shortest_answer(p: PackedParameters, column_norm: float, failure_log2: float) -> PackedParameters:
    return _shortest(p, lambda shorter: _fits(shorter, column_norm, failure_log2))


def _shortest(p: PackedParameters, fits) -> PackedParameters:
    """`p` with the pair of answer widths that takes the fewest bits and still fits; ties to the shorter body."""
    values = asdict(p)
    best, best_key = p, (p.mask_bits + p.body_bits, p.body_bits)
    for body_bits in range(1, p.body_bits + 1):
        # Wider masks only add precision, so the first that fits is the shortest for this body.
        for mask_bits in range(1, p.mask_bits + 1):
            key = (mask_bits + body_bits, body_bits)
            if key[0] > best_key[0]:
                break
            shorter = PackedParameters(**values | {"mask_bits": mask_bits, "body_bits": body_bits})
            if fits(shorter):
                best, best_key = min((best, best_key), (shorter, key), key=lambda pair: pair[1])
                break
    return best
