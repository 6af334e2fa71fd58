"""Checks the table of lattice estimates with the lattice-estimator itself, or prints rows for it: not a test, it needs more.

    pip install passagemath-symbolics passagemath-modules passagemath-plot scipy
    git clone https://github.com/malb/lattice-estimator && git -C lattice-estimator checkout 27a581b
    PYTHONPATH=lattice-estimator python tests/known_answers/check_lattice_estimates.py            all rows, against the table
    PYTHONPATH=lattice-estimator python tests/known_answers/check_lattice_estimates.py 2048 45 47  rows of N and log2 Q, printed

The estimator imports `sage.all`, which these packages lack: write a file sage/all.py beside their sage/all__sagemath_modules.py

    from sage.all__sagemath_modules import *
    from sage.all__sagemath_flint import *
    from sage.all__sagemath_gsl import *
    from sage.all__sagemath_symbolics import *
    from sage.all__sagemath_plot import *
"""

import csv
import math
import sys
from pathlib import Path

TABLE = Path(__file__).parents[2] / "src" / "private_lora" / "crypto" / "lattice_estimates.csv"
LARGEST_DIFFERENCE = 0.1  # the table's digits


def estimates(dimension: int, log2_q: int) -> dict[str, float]:
    """The columns of the table for one row: log2 of operations, and the block size of the first attack."""
    from estimator import LWE, ND, RC  # the user's own

    instance = LWE.Parameters(n=dimension, q=2**log2_q, Xs=ND.UniformMod(3), Xe=ND.DiscreteGaussian(3.2))
    usvp = LWE.primal_usvp(instance, red_cost_model=RC.MATZOV)
    found = {
        "usvp_matzov": usvp,
        "bdd_matzov": LWE.primal_bdd(instance, red_cost_model=RC.MATZOV),
        "dual_hybrid_matzov": LWE.dual_hybrid(instance, red_cost_model=RC.MATZOV),
        "usvp_adps16": LWE.primal_usvp(instance, red_cost_model=RC.ADPS16),
        "dual_hybrid_adps16": LWE.dual_hybrid(instance, red_cost_model=RC.ADPS16),
        "usvp_chaloy21_quantum": LWE.primal_usvp(instance, red_cost_model=RC.ChaLoy21),
    }
    bits = {name: round(math.log2(cost["rop"]), 1) for name, cost in found.items()}
    return bits | {"usvp_matzov_block_size": int(usvp["beta"])}


def main(arguments: list[str]) -> int:
    """Number of rows that differ; 0 when rows were only printed."""
    with TABLE.open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        names, rows = rows.fieldnames, list(rows)
    if arguments:
        dimension, *moduli = map(int, arguments)
        for log2_q in moduli:
            found = estimates(dimension, log2_q) | {"n": dimension, "log2_q": log2_q}
            print(",".join(str(found[name]) for name in names), flush=True)
        return 0
    different = 0
    for row in rows:
        found = estimates(int(row["n"]), int(row["log2_q"]))
        off = {name: bits for name, bits in found.items() if abs(bits - float(row[name])) > LARGEST_DIFFERENCE}
        different += bool(off)
        print(f"N = {row['n']}, log2 Q = {row['log2_q']}: {f'differs: {off}' if off else 'equal'}", flush=True)
    return different


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
