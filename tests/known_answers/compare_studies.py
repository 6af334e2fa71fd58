"""Compares a finished smoke study with that of commit b24a8b2, number by number:

    snakemake --cores 2 --configfile tests/known_answers/smoke_b24a8b2.yaml --config results=DIRECTORY
    python tests/known_answers/compare_studies.py DIRECTORY

Equal digit for digit must be whatever agreed in all old studies: losses, gradient norms, learning rates, counters, bytes, exact
matches. Numbers that differed between them (real encryption takes its noise from the operating system) must lie in the range of
the old ones, widened on both sides by `WIDTHS` times its width, or by `FLOOR` of the largest size in it if that is more. Times,
memory and what the machine can do (`is_measured`) are not compared. A run that the present study leaves out is listed, and so
is a missing number of a run that is there; neither is a difference, but with --strict the latter is. Losses depend on the
processor, cores and versions: compare studies of the same machine.

Exit status: 0 if no number differs, 1 otherwise.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import renamed

BASELINE = Path(__file__).parent / "smoke_b24a8b2.csv.gz"
# Of six normal numbers, the sixth is outside the range of the others, so widened, once in 600 cases; by one width, once in 34.
WIDTHS = 3
FLOOR = 0.01
KEY = ("run_id", "phase", "repeat", "step", "metric", "backend", "layer", "tokens", "inputs", "outputs")
COLUMNS = (*KEY, "kind", "low", "high", "studies", "machine")
# Stages whose records hold several layers and backends of one run.
OF_LAYERS = "block"
MEASURED = ("peak_memory_bytes", "largest_worker_memory_bytes", "interface_bytes")


@dataclass
class Verdict:
    """What a comparison found. differ: sentences. left_out: run_ids. missing: keys of numbers of runs that are there."""

    equal: int = 0
    noisy: int = 0
    differ: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    missing: list[tuple] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.equal} numbers equal, {self.noisy} noisy within spread, {len(self.differ)} differ"
        return f"{counts}, {len(self.left_out)} runs left out, {len(self.missing)} numbers of other runs missing"


def is_measured(metric: str) -> bool:
    """Whether a metric is a time, memory, or speed of the machine, which no two runs share."""
    return metric.endswith("_time_s") or metric.startswith("ceiling_") or metric in MEASURED


def key_of(row: dict) -> tuple:
    """What a number is of, from the text of old rows or the columns of new ones, by present names. options are left out.

    (In the smoke study no run has the same backend with two options, so run and backend tell everything.)
    """
    stage = row["stage"]
    layer, sizes = _layer(row) if stage == OF_LAYERS else ("", ("", "", ""))
    backend = row["backend"] if stage == OF_LAYERS else ""
    metric = renamed.METRICS.get(row["metric"], row["metric"])
    place = row["phase"], _whole(row["repeat"]), _whole(row["step"]), metric
    return (renamed.run_id(row["run_id"], stage), *place, backend, layer, *sizes)


def _layer(row: dict) -> tuple[str, tuple[str, str, str]]:
    """Layer, and tokens, inputs and outputs of a row, old or new; empty for a number of the whole run."""
    if row.get("layer"):
        return row["layer"], tuple(_whole(row[name]) for name in ("tokens", "inputs", "outputs"))
    parts = row["variant"].split(", ")
    if len(parts) < 2:
        return "", ("", "", "")
    return parts[0], tuple(parts[1].split("x"))


def _whole(text: str) -> str:
    """A whole number without the `.0` that pandas may have given it."""
    return text.removesuffix(".0")


def read_numbers(results: Path) -> tuple[dict[tuple, str], str]:
    """The compared numbers of a study, as text by key, and its machine; raises ValueError where two numbers have one key.

    From the collected rows in `data` or, if there are none, from each run's own.
    """
    paths = sorted(results.glob("data/*.csv")) or sorted(results.glob("*/*/records.csv"))
    found: dict[tuple, str] = {}
    machines = Counter()
    for path in paths:
        for row in _rows(path):
            machines[row["machine"]] += 1
            if is_measured(row["metric"]):
                continue
            for key in _of_each_layer(key_of(row)):
                if found.setdefault(key, row["value"]) != row["value"]:
                    raise ValueError(f"{path}: two numbers of {describe(key)}: {found[key]} and {row['value']}")
    return found, machines.most_common(1)[0][0] if machines else ""


def _of_each_layer(key: tuple) -> Iterable[tuple]:
    """The key for each layer, if one sample stands for several of the same shape (`k, v`)."""
    at = KEY.index("layer")
    for layer in key[at].split(","):
        yield (*key[:at], layer.strip(), *key[at + 1 :])


def _rows(path: Path) -> list[dict]:
    """The rows of a file of records; none of a file of another kind."""
    with open(path, newline="") as handle:
        reader = csv.DictReader(handle)
        return list(reader) if {"run_id", "metric", "value", "variant"} <= set(reader.fieldnames or ()) else []


def describe(key: tuple) -> str:
    """A key in words."""
    named = dict(zip(KEY, key, strict=True))
    return ", ".join(f"{name} {value}" if name != "run_id" else value for name, value in named.items() if value)


def read_baseline(path: Path = BASELINE) -> dict[tuple, dict]:
    """Rows of the baseline by key."""
    with gzip.open(path, "rt", newline="") as handle:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(handle)}


def compare(numbers: dict[tuple, str], baseline: dict[tuple, dict]) -> Verdict:
    """The verdict on the numbers of a study."""
    verdict, present = Verdict(), {key[0] for key in numbers}
    verdict.left_out = sorted({key[0] for key in baseline} - present)
    for key, row in baseline.items():
        if key in numbers:
            _judge(verdict, key, numbers[key], row)
        elif key[0] in present:
            verdict.missing.append(key)
    return verdict


def _judge(verdict: Verdict, key: tuple, value: str, row: dict) -> None:
    """Count one number that both have."""
    low, high = row["low"], row["high"]
    if row["kind"] == "equal":
        if is_equal(value, low):
            verdict.equal += 1
        else:
            verdict.differ.append(f"{describe(key)}: {value}, was {low}")
        return
    bottom, top = spread(float(low), float(high))
    if value and bottom <= float(value) <= top:
        verdict.noisy += 1
    else:
        verdict.differ.append(f"{describe(key)}: {value} is outside [{bottom:.6g}, {top:.6g}], was in [{low}, {high}]")


def is_equal(value: str, expected: str) -> bool:
    """Whether two cells are the same number to the last digit, or the same text."""
    try:
        return float(value) == float(expected) or value == expected
    except ValueError:
        return value == expected


def spread(low: float, high: float) -> tuple[float, float]:
    """The range in which a noisy number may lie, from that of the old ones; see above."""
    margin = max(WIDTHS * (high - low), FLOOR * max(abs(low), abs(high)))
    return low - margin, high + margin


def main(arguments: list[str] | None = None) -> int:
    """Exit status; prints the verdict and what it is made of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="directory of a finished smoke study")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--strict", action="store_true", help="a missing number of a run that is there is a difference")
    given = parser.parse_args(arguments)
    numbers, machine = read_numbers(given.results)
    baseline = read_baseline(given.baseline)
    verdict = compare(numbers, baseline)
    print_details(verdict, machine, next(iter(baseline.values()))["machine"])
    print(verdict)
    failed = verdict.differ or not (verdict.equal or verdict.noisy) or (given.strict and verdict.missing)
    return int(bool(failed))


def print_details(verdict: Verdict, machine: str, before: str) -> None:
    """What differs, what is missing (by run and metric) and what was left out."""
    if machine != before:
        print(f"the study is of {machine!r}, the baseline of {before!r}: float32 sums may differ in their last digits")
    for sentence in verdict.differ:
        print(f"differs: {sentence}")
    metric = KEY.index("metric")
    for (run_id, name), count in Counter((key[0], key[metric]) for key in verdict.missing).items():
        print(f"missing: {run_id}, metric {name}: {count} numbers")
    for run_id in verdict.left_out:
        print(f"left out: {run_id}")


if __name__ == "__main__":
    sys.exit(main())
