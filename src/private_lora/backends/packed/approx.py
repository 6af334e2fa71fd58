"""`packed_approx`: token-packed RLWE with a small modulus, and `packed_simulated`, which predicts its noise in the clear.

Each token's message is scaled as far up as its own size allows, so that no product can wrap around: |x_t w_d| is at most the
smallest of the three products of dual norms, and room is kept for the largest error that the failure probability allows. The
scales stay with the client.
"""

from __future__ import annotations

from dataclasses import asdict

import numba
import numpy as np

from private_lora.backends.clear.arithmetic import ExactProduct
from private_lora.backends.contract import ClearMessage, Plan, Server, accumulator_bound, integer_bits
from private_lora.backends.packed.exact import PackedBackend, PackedClient, PackedKeys, WeightNorms, parameters_of
from private_lora.backends.packed.session import SessionClient
from private_lora.backends.simulated import SimulatedBackend
from private_lora.crypto.parallel import in_ranges
from private_lora.crypto.parameters import FAILURE_LOG2, choose_approximate
from private_lora.crypto.planes import weight_digits
from private_lora.crypto.security import COLUMN, SECURITY_BITS
from private_lora.crypto.session_parameters import SessionParameters, choose_session_approximate

LOG2_Q = 26


class PackedApproxBackend(PackedBackend):
    """log2_q: of the modulus; one more bit halves the error. The ring is the smallest that the security table allows for it."""

    name = "packed_approx"

    def __init__(
        self,
        device: str = "cpu",
        log2_q: int = LOG2_Q,
        failure_log2: float = FAILURE_LOG2,
        security: str = COLUMN,
        mask: str = "session",
    ):
        super().__init__(device, failure_log2, security, mask)
        self.log2_q = log2_q

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        asked = self.log2_q, self.failure_log2, self.security, self.mask
        return approximate_plan(self.name, weight, activation_bits, *asked, SECURITY_BITS)

    def error_of_answers(self, plan: Plan, weight: np.ndarray) -> ApproximateError:
        return ApproximateError(plan, weight)

    def _session_client(self, plan: Plan, keys: PackedKeys, parameters: SessionParameters) -> SessionApproxClient:
        return SessionApproxClient(plan, keys, parameters)

    def _fresh_client(self, plan: Plan, keys: PackedKeys) -> PackedApproxClient:
        return PackedApproxClient(plan, keys)


class ApproximateError:
    """The error of this scheme's answers, before they are rounded to integers and after.

    A row's error is e W + f: e, of the question (its noise, its rounding, the rounding of the scaled message), goes through the
    weight; f comes from what is rounded on the way down, each value of each digit by itself. All of it is in units of the row's
    scale. The rounding to integers at the end moves no value by more than a half.
    """

    def __init__(self, plan: Plan, weight: np.ndarray):
        parameters = parameters_of(plan)
        self._plan, self._weight = plan, weight_digits(weight, plan.weight_bits)
        # A sum of two digits has the error of the upper one 256 times.
        self._digits = (1.0,) if plan.parameters["weight"]["digits"] == 1 else (1.0, 256.0)
        self._down = float(parameters.noise_variance(0.0))
        self._up = float(parameters.noise_variance(1.0)) - self._down

    def variances(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `AnswerError`."""
        parts = np.split(self._weight, len(self._digits), axis=1)
        through = sum(factor * (part @ vectors.T.astype(np.float64)) for factor, part in zip(self._digits, parts, strict=True))
        sizes = np.square(vectors, dtype=np.float64).sum(axis=1) * sum(factor**2 for factor in self._digits)
        return self._up * np.square(through).sum(axis=0) + self._down * sizes, sizes / 4

    def scales(self, x: np.ndarray) -> np.ndarray:
        """As of `AnswerError`."""
        return token_scales(self._plan, x)


class _OwnScales:
    """Scales each row by its own size."""

    def scales(self, x: np.ndarray) -> np.ndarray:
        """Scale of each row's message (T)."""
        return token_scales(self.plan, x)


class PackedApproxClient(_OwnScales, PackedClient):
    """Under a fresh mask for each question."""


class SessionApproxClient(_OwnScales, SessionClient):
    """Under a session's masks."""


def approximate_plan(
    name: str,
    weight: np.ndarray,
    activation_bits: int,
    log2_q: int,
    failure_log2: float,
    security: str,
    mask: str,
    security_bits: int,
) -> Plan:
    """The plan of both backends of this module. noise_std: an upper bound, for rows of the largest size the bits allow."""
    norms = WeightNorms.of(weight)
    choose = choose_session_approximate if mask == "session" else choose_approximate
    parameters = choose(log2_q, norms.l2, security, norms.common_bits)
    error_std = float(parameters.noise_variance(norms.l2)) ** 0.5
    # Messages are rounded to integers: at most 1/2 for each entry of the column.
    room = 2.0 ** (log2_q - 1) - norms.l1 / 2 - parameters.phase_error(norms.l2).largest(failure_log2)
    if room < norms.l1 / 2:
        raise ValueError(f"a modulus of {log2_q} bits has no room for this layer's error: give {name} a larger log2_q")
    half, inputs = 2 ** (activation_bits - 1), len(weight)
    largest = min(half * inputs**0.5 * norms.l2, half * norms.l1, half * inputs * norms.largest)
    return Plan(
        name,
        *weight.shape,
        activation_bits,
        integer_bits(weight),
        accumulator_bound(weight, activation_bits),
        exact=False,
        noise_std=(1 if norms.digits == 1 else 257) * error_std * largest / room + 1,
        security_bits=security_bits,
        parameters=parameters.report(norms.l2) | {"weight": asdict(norms), "room": room, "failure_log2": failure_log2},
    )


def token_scales(plan: Plan, x: np.ndarray) -> np.ndarray:
    """Scale of each row's message (T), as large as cannot wrap around; a row of zeros has that of a row with a single one."""
    norms = plan.parameters["weight"]
    sums, squares, largest = (np.empty(len(x), np.int64) for _ in range(3))
    in_ranges(_row_norms, len(x), x, sums, squares, largest)
    bounds = np.minimum(np.sqrt(squares) * norms["l2"], np.minimum(sums * norms["largest"], largest * norms["l1"]))
    return plan.parameters["room"] / np.where(bounds > 0, bounds, norms["largest"] or 1)


@numba.njit(nogil=True, cache=True)
def _row_norms(start, stop, x, sums, squares, largest):
    """Sum of absolute values, of squares, and the largest absolute value of rows start..stop-1."""
    for row in range(start, stop):
        values = x[row]
        total, square, most = np.int64(0), np.int64(0), np.int64(0)
        for i in range(values.size):
            size = abs(np.int64(values[i]))
            total += size
            square += size * size
            most = max(most, size)
        sums[row], squares[row], largest[row] = total, square, most


class PackedSimulatedBackend(SimulatedBackend):
    """The integer product plus the error that `packed_approx` would make, drawn from the formula; options as there."""

    name = "packed_simulated"

    def __init__(
        self,
        device: str = "cpu",
        seed: int = 0,
        log2_q: int = LOG2_Q,
        failure_log2: float = FAILURE_LOG2,
        security: str = COLUMN,
        mask: str = "session",
    ):
        super().__init__(device, seed)
        self._options = log2_q, float(failure_log2), security, mask

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        return approximate_plan(self.name, weight, activation_bits, *self._options, security_bits=0)

    def server(self, plan: Plan, weight: np.ndarray) -> PackedSimulatedServer:
        return PackedSimulatedServer(plan, weight, self.generator)


class PackedSimulatedServer(Server):
    """The exact product with a normal error for each value: its variance from the column's norm and the row's scale."""

    def __init__(self, plan: Plan, weight: np.ndarray, generator: np.random.Generator):
        super().__init__(plan)
        self._product = ExactProduct(weight, plan.activation_bits)
        self._generator = generator
        norms = np.sqrt(np.square(weight_digits(weight, plan.weight_bits).astype(np.float64)).sum(axis=0))
        variances = parameters_of(plan).noise_variance(norms)
        if plan.parameters["weight"]["digits"] == 2:
            low, high = np.split(variances, 2)
            variances = low + 256.0**2 * high
        self._stds = np.sqrt(variances).astype(np.float32)

    def matmul(self, message: ClearMessage) -> ClearMessage:
        self.counters.products += 1
        product = self._product(message.values)
        noise = self._generator.standard_normal(product.shape, dtype=np.float32) * self._stds
        noise /= token_scales(self.plan, message.values).astype(np.float32)[:, None]
        return ClearMessage(product + np.rint(noise).astype(np.int64))
