# The study, and names of files that more than one set of rules needs. Imports neither torch nor pandas.
import shlex
import sys
from pathlib import Path

from private_lora.study.config import study_of
from private_lora.results.fingerprints import fingerprint, source_files
from private_lora.core.errors import UserError
from private_lora.study.grid import input_files, relative

try:
    STUDY = study_of(config)
except UserError as error:
    # Not a WorkflowError: the mistake is in the configuration, and file and line of this rule would only distract.
    sys.exit(f"Error: {error}")

RESULTS = str(STUDY.results)
DATA = f"{RESULTS}/data"
LOGS = f"{RESULTS}/logs"

# Kinds of records, each with a file of all its rows.
KINDS = ("convergence", "loopback", "layer", "block")
TABLES = {name: f"{RESULTS}/tables/{name}" for name in STUDY.tables}
FIGURES = {name: f"{RESULTS}/figures/{name}" for name in STUDY.figures}
PUBLISHED = [f"{table}.csv" for table in TABLES.values()] + [f"{figure}.png" for figure in FIGURES.values()]
COLLECTED = {name: f"{DATA}/{name}.csv" for name in (*KINDS, "published_values", "published_curves")}


def beside(name):
    """Recorded files of other studies whose rows are published beside those of `name`.csv."""
    files = [directory / f"{name}.csv" for directory in STUDY.beside]
    return [str(path) for path in files if path.is_file()]


# One file of such rows for each kind that there is.
BESIDE = {f"{name}_beside": f"{DATA}/beside/{name}.csv" for name in KINDS if beside(name)}
COLLECTED |= BESIDE
# What the cost model reads, and what it makes of it.
COST_INPUTS = {name: path for name, path in COLLECTED.items() if name.startswith(("convergence", "block"))}
COLLECTED["costs"] = f"{DATA}/costs.csv"

# Snakemake cuts this down to the cores that it was given, on a cluster to the `max-threads` of its profile.
ALL_CORES = 1024

# Minutes after which a cluster may end a job: many times what the study takes here, because models and machines differ.
# Fine-tuning that is cut off goes on from its checkpoint when Snakemake is called again.
A_DAY = 24 * 60
SOME_HOURS = 6 * 60


def records(name, directory, specs):
    """Files whose rows make `name`.csv: one of each spec, or the recorded one, if there is one."""
    if STUDY.recorded is None:
        return [f"{RESULTS}/{directory}/{run_id}/records.csv" for run_id in specs]
    recorded = STUDY.recorded / f"{name}.csv"
    return [str(recorded)] if recorded.is_file() else []


def priority_of(spec):
    """Of a fine-tuning run: one that needs every core for itself goes first, then real encryption, which takes longest."""
    return 50 if spec.stage == "full_size" else 20 * (spec.backend in ("concrete_ml", "glwe"))


def gpu_of(spec):
    """GPUs that a job needs; a cluster is asked for them."""
    return int(spec.device == "cuda")


def code(package):
    """Source files of a package of ours and of what it imports."""
    return relative(source_files(frozenset({package})))


wildcard_constraints:
    run_id=r"[A-Za-z0-9._-]+",


# The interpreter that runs Snakemake has the package; another `python` on the path may not. And a job uses the threads it
# is given, no more: Snakemake tells OpenMP and BLAS, the other two have variables of their own. Idle OpenMP threads sleep:
# spinning, they would hold the cores that the packed client's threads need next. Memory comes in large pages where the C
# library can ask for them (GLWE streams a key of 134 MB for every output, in two thirds of the time with them), and stays with
# the process: on virtual machines, pages that were given back and are asked for again cost more than the product in them.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    " RAYON_NUM_THREADS=$OMP_NUM_THREADS NUMBA_NUM_THREADS=$OMP_NUM_THREADS OMP_WAIT_POLICY=PASSIVE"
    " GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736; "
)
