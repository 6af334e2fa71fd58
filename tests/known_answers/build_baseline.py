"""Writes smoke_b24a8b2.csv.gz from finished smoke studies of commit b24a8b2:

    python tests/known_answers/build_baseline.py DIRECTORY DIRECTORY...

The first two are the `results/smoke` of clones in which `snakemake --cores 2 --configfile config/smoke.yaml` was run;
the others, of clones where only the noisy runs were made, which differ between the two:
`snakemake --cores 2 results/smoke/runs/RUN_ID/records.csv ... --configfile config/smoke.yaml`.
The column `studies` says how many of them a number was seen in. The committed file is of two whole studies and three of the
noisy runs; the last of these three left out the two trainings under GLWE, which so have four.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from pathlib import Path

import compare_studies


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=compare_studies.BASELINE)
    given = parser.parse_args()
    studies = [compare_studies.read_numbers(directory) for directory in given.results]
    rows = baseline_rows([numbers for numbers, _ in studies], studies[0][1])
    given.out.write_bytes(compressed(rows))
    noisy = {row["run_id"] for row in rows if row["kind"] == "noisy"}
    print(f"{len(rows)} numbers, {sum(row['kind'] == 'noisy' for row in rows)} of them noisy, in:", *sorted(noisy), sep="\n")


def baseline_rows(studies: list[dict[tuple, str]], machine: str) -> list[dict]:
    """One row for each number of the first study, with its range over all that have it.

    Raises ValueError if the first two studies do not have the same numbers.
    """
    if set(studies[0]) != set(studies[1]):
        raise ValueError("the first two studies must be whole, and have the same numbers")
    rows = []
    for key in studies[0]:
        values = [study[key] for study in studies if key in study]
        noisy = not all(compare_studies.is_equal(value, values[0]) for value in values)
        low, high = (min(values, key=float), max(values, key=float)) if noisy else (values[0], values[0])
        facts = {"kind": "noisy" if noisy else "equal", "low": low, "high": high, "studies": len(values), "machine": machine}
        rows.append(dict(zip(compare_studies.KEY, key, strict=True)) | facts)
    return rows


def compressed(rows: list[dict]) -> bytes:
    """The rows as a CSV, compressed without a date."""
    text = io.StringIO()
    writer = csv.DictWriter(text, compare_studies.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), 9, mtime=0)


if __name__ == "__main__":
    main()
