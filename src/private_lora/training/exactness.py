"""How likely it is that any value of a run decrypts wrongly: bounded before the run starts, and by the count of what it did."""

from __future__ import annotations

import logging
import math
import sys

from private_lora.core.errors import UserError
from private_lora.crypto.failure import RUN_FAILURE_LOG2
from private_lora.specs.run import RunSpec
from private_lora.split.session import Session

log = logging.getLogger(__name__)


def planned_tokens(spec: RunSpec) -> int:
    """Most rows that a product of a run is asked for, but for texts that it writes and general text, which are few."""
    evaluations = 2 + (spec.steps // spec.eval_every if spec.eval_every else 0)
    rows = spec.steps * (spec.batch_size + spec.rehearsed_rows) + evaluations * spec.eval_examples
    return rows * spec.sequence_length


def check_planned_values(spec: RunSpec, session: Session) -> None:
    """Nothing; raises UserError if any of a run's exact values may be wrong with a probability above 2^RUN_FAILURE_LOG2.

    Does nothing for products that are not exact, or not encrypted.
    """
    plans = [p.plan for p in session.products if p.plan.exact and p.plan.parameters.get("failure_log2") is not None]
    columns = [plan.outputs * plan.parameters["weight"]["digits"] for plan in plans]
    bounds = [2.0 ** plan.parameters["failure_log2"] for plan in plans]
    tokens = planned_tokens(spec)
    planned = _log2(tokens * sum(c * bound for c, bound in zip(columns, bounds, strict=True)))
    if planned <= RUN_FAILURE_LOG2:
        return
    values = tokens * sum(columns)
    raise UserError(
        f"backend {spec.backend!r} would decrypt {values:.1e} values in this run, of which any is wrong with a probability of "
        f"up to 2^{planned:.1f}, more than 2^{RUN_FAILURE_LOG2}: give it the option "
        f"failure_log2: {math.floor(RUN_FAILURE_LOG2 - math.log2(values))}, or take fewer steps"
    )


def exactness(session: Session) -> dict:
    """What a report says of the values that were decrypted as exact integers; {} where there are none. Warns where it must.

    run_failure_log2: log2 of a bound on the probability that any of them was wrong. exact_within_failure_bound: whether it is
    small enough to call them exact.
    """
    counters = session.counters
    if not counters.decrypted_values:
        return {}
    failure_log2 = _log2(counters.failure_probability)
    is_within = failure_log2 <= RUN_FAILURE_LOG2
    if not is_within:
        log.warning(
            "of %.1e decrypted values any is wrong with a probability of up to 2^%.1f, more than 2^%d: do not call them exact",
            counters.decrypted_values,
            failure_log2,
            RUN_FAILURE_LOG2,
        )
    return {
        "values_decrypted": counters.decrypted_values,
        "run_failure_log2": failure_log2,
        "exact_within_failure_bound": is_within,
    }


def _log2(probability: float) -> float:
    """Of a bound; one too small for a float64 is rounded up."""
    return math.log2(max(probability, sys.float_info.min))
