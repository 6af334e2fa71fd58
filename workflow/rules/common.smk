# The study, and names of files that more than one set of rules needs. Imports neither torch nor pandas.
import shlex
import sys
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.paths import PACKAGE

try:
    # Here already what other packages add is read, and refused if it cannot be used.
    from private_lora.results.fingerprints import code_fingerprint, fingerprint, publishing_files, source_files
    from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES
    from private_lora.specs.stages import FINE_TUNING, MEASUREMENTS
    from private_lora.study import jobs, progress
    from private_lora.study.config import study_of
    from private_lora.study.grid import relative

    STUDY = study_of(config)
    # Code that another package names and does not have is missed now, and not in a job.
    CODE = {spec.run_id: fingerprint(spec) for spec in (*STUDY.runs.values(), *STUDY.measurements)}
    ENTRIES = [PUBLISHED_TABLES[name] for name in STUDY.tables] + [PUBLISHED_FIGURES[name] for name in STUDY.figures]
    PUBLISHING = relative(publishing_files(ENTRIES))
except UserError as error:
    # Not a WorkflowError: the mistake is in the configuration, and file and line of this rule would only distract.
    sys.exit(f"Error: {error}")

RESULTS = str(STUDY.results)
DATA = f"{RESULTS}/data"
LOGS = f"{RESULTS}/logs"
# Kernels are compiled beside the source, for whatever study comes first in this clone.
KERNELS = "results/kernels.txt"

# Kinds of records, each with a file of all its rows, and the stages whose runs they are of.
KINDS = {"convergence": FINE_TUNING} | {kind: (kind,) for kind in MEASUREMENTS}
# Runs that share a process are one job, whose name and number are those of its records.
BATCHES = jobs.batches([*STUDY.runs.values(), *STUDY.measurements])
RECORDS = {stage: [] for stages in KINDS.values() for stage in stages}
for batch in BATCHES.values():
    RECORDS[batch.specs[0].stage].append(f"{DATA}/jobs/{batch.name}.csv")

COSTS = f"{DATA}/costs.csv"
TABLES = {name: f"{RESULTS}/tables/{name}" for name in STUDY.tables}
FIGURES = {name: f"{RESULTS}/figures/{name}" for name in STUDY.figures}
PUBLISHED = [f"{table}.csv" for table in TABLES.values()] + [f"{figure}.png" for figure in FIGURES.values()]
REPORT = f"{RESULTS}/report.html"

# Snakemake cuts this down to the cores that it was given, on a cluster to the `max-threads` of its profile.
ALL_CORES = 1024

# Minutes after which a cluster may end a job: many times what the study takes here, because models and machines differ.
# Fine-tuning that is cut off goes on from its checkpoint when Snakemake is called again.
A_DAY = 24 * 60
SOME_HOURS = 6 * 60


def records(kind):
    """Files whose rows make the CSV of a kind: of each job of this study, or the recorded one, if there is one."""
    if STUDY.recorded is None:
        return [path for stage in KINDS[kind] for path in RECORDS[stage]]
    recorded = STUDY.recorded / f"{kind}.csv"
    return [str(recorded)] if recorded.is_file() else []


def beside(kind):
    """Recorded files of other studies whose rows are published beside those of this one."""
    files = [directory / f"{kind}.csv" for directory in STUDY.beside]
    return [str(path) for path in files if path.is_file()]


def batch_of(wildcards):
    """The runs of a job."""
    return BATCHES[wildcards.batch]


def inputs_of(wildcards):
    """Local files that the numbers of a job's runs depend on."""
    return jobs.input_files_of(batch_of(wildcards))


def specs_of(wildcards):
    """The specs of a job's runs, as its command takes them."""
    return [spec.to_json() for spec in batch_of(wildcards).specs]


def code_of(wildcards):
    """Fingerprints of the code that the runs of a job go through."""
    return sorted({CODE[spec.run_id] for spec in batch_of(wildcards).specs})


def memory_of(wildcards):
    """Megabytes to reserve for a job."""
    return max(STUDY.memory_of(spec) for spec in batch_of(wildcards).specs)


def described(path, kind, name):
    """An entry of Snakemake's own report, with its caption, if it is not of another package."""
    file = f"report/{kind}_{name}.rst"
    caption = f"../{file}" if Path("workflow", file).is_file() else None
    return report(path, caption=caption, category=f"{kind.capitalize()}s", labels={kind: name.replace("_", " ")})


wildcard_constraints:
    batch=r"[a-z_]+-\d+",


# One line for each job that ends: how far, and how long still.
progress.show(BATCHES, workflow)

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
