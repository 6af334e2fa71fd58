"""Runs that teach a real LLM something, and the same through workers: what each was asked, and its exact and float twins."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.publish.tables.convergence import STOPPED_EARLY, stopped_early
from private_lora.results.labels import bits_label, in_order
from private_lora.results.reader import Data
from private_lora.results.runs import OK, rows_of, run_metrics, series_of, summarise_runs
from private_lora.specs.models import BUILT_IN_MODELS

STAGE, IN_PROCESS = "knowledge", "in process"
# What somebody is asked, by the metric of its share; each has a second metric, how many questions.
QUESTIONS = ("exact_match", "exact_match_unanswerable", "generated_exact_match")
# Of texts that have nothing to do with the training; the kind of the first may have been rehearsed.
OTHER_TEXTS = ("general_loss", "unrehearsed_loss")
LOSSES = ("loss", *OTHER_TEXTS, "bits_per_byte")
COUNTED = ("exact_match_by_guessing", "encrypted_matmuls", "remote_matmuls", "upload_ciphertext_bytes")
COUNTED += ("download_ciphertext_bytes", "train_tokens", "step_tokens", "lora_rank", "security_bits", "peak_memory_bytes")
COUNTED += ("train_time_s", "requested_steps")
# What runs on the same batches have in common, whatever computes them; the exact integers of a run its widths besides.
SAME = ["model", "dataset", "seed", "steps", "step_tokens", "lora_rank", "questions"]
WIDTHS = ["quantizer", "activation_bits", "weight_bits"]


@dataclass(frozen=True)
class Twins:
    """The runs in process on the same batches: the exact integers of the same widths, and float; None where there is none."""

    integer: pd.Series | None
    plain: pd.Series | None


@once
def knowledge_runs(data: Data) -> pd.DataFrame:
    """One line per run of the stage, and per run through workers that answered questions: first what was asked the most.

    arrangement: `in process`, or how its products reach the workers. study: the variant of the runs that it stands beside.
    evaluations: frame by step with the metrics of QUESTIONS (and `..._questions`) and LOSSES. losses, step_times: by step.
    """
    rows = _rows(data)
    runs = summarise_runs(rows)
    lines = [dict(run) | _told(run, rows_of(rows, run)) for _, run in runs.iterrows()]
    if not lines:
        return pd.DataFrame(columns=[*runs, "study", "arrangement", "bits", "machine", *COUNTED, "losses", "step_times"])
    found = pd.DataFrame(lines)
    found["study"] = [_study(found, run) for _, run in found.iterrows()]
    return _in_order(found)


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs by model, then data and studies, those with the most questions first; in process before through workers."""
    asked = runs.assign(asked=-runs["questions"].fillna(0), remote=runs["arrangement"] != IN_PROCESS)
    for name, keys in (("least", ["model", "dataset"]), ("fewer", ["model", "dataset", "study", "steps"])):
        asked[name] = asked.groupby(keys)["asked"].transform("min")
    order = ["model", "least", "dataset", "fewer", "study", "steps", "backend", "quantizer", "activation_bits", "remote"]
    return in_order(asked, [*order, "arrangement", "seed"], BUILT_IN_MODELS)[list(runs)]


def _rows(data: Data) -> pd.DataFrame:
    """Rows of the stage, and of every run of the stage loopback that was asked something."""
    through = data.loopback
    asked = through.loc[through["metric"].isin([f"{name}_questions" for name in QUESTIONS]), "run_id"].unique()
    own = data.convergence[data.convergence["stage"] == STAGE]
    parts = [part for part in (own, through[through["run_id"].isin(asked)]) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else own


def _told(run: pd.Series, rows: pd.DataFrame) -> dict:
    """What the table needs of a run beside its summary."""
    first = rows.iloc[0]
    asked = [name for metric in QUESTIONS for name in (metric, f"{metric}_questions")]
    series = {name: series_of(rows, "eval", name) for name in (*LOSSES, *asked)}
    evaluations = pd.DataFrame({name: values for name, values in series.items()}).reindex(columns=[*LOSSES, *asked])
    line = {"evaluations": evaluations, "questions": evaluations["exact_match_questions"].max()}
    line |= run_metrics(rows, COUNTED) | {"machine": first["machine"]}
    line["bits"] = bits_label(first["activation_bits"], first["weight_bits"])
    line["arrangement"] = IN_PROCESS if first["stage"] == STAGE else first["variant"]
    line["losses"] = series_of(rows, "train", "loss")
    line["step_times"] = series_of(rows, "train", "step_time_s")
    return line | ({"status": STOPPED_EARLY} if run["status"] == OK and stopped_early(run, rows) else {})


def _study(runs: pd.DataFrame, run: pd.Series) -> str:
    found = twins(runs, run)
    beside = found.integer if found.integer is not None else found.plain
    return run["variant"] if beside is None else beside["variant"]


def twins(runs: pd.DataFrame, run: pd.Series) -> Twins:
    """The runs in process beside a run: on its machine if there are any, then with the most words of its variant."""
    same = [runs[name].eq(run[name]) | (runs[name].isna() & pd.isna(run[name])) for name in SAME]
    found = runs[np.logical_and.reduce([*same, runs["arrangement"] == IN_PROCESS])]
    integer = found[(found["backend"] == "integer") & (found[WIDTHS] == run[WIDTHS]).all(axis=1)]
    return Twins(_nearest(integer, run), _nearest(found[found["backend"] == "float"], run))


def _nearest(found: pd.DataFrame, run: pd.Series) -> pd.Series | None:
    if not len(found):
        return None
    words = set(run["variant"].split())

    def distance(i: int) -> tuple[bool, int]:
        other = found.iloc[i]
        return other["machine"] != run["machine"], len(words ^ set(other["variant"].split()))

    return found.iloc[min(range(len(found)), key=distance)]


def evaluated(run: pd.Series, metric: str, last: bool) -> float:
    """A metric of a run's first or last evaluation; NaN where that one is not at step 0, or not at the last step asked for."""
    values, step = run["evaluations"][metric], run["steps"] if last else 0
    return np.nan if last and run["status"] == STOPPED_EARLY else float(values.get(step, np.nan))


def right_and_asked(runs: pd.DataFrame, metric: str, last: bool) -> tuple[int, int]:
    """Questions that these runs together answered right in their first or last evaluations, and those they were asked."""
    shares = [evaluated(run, metric, last) for _, run in runs.iterrows()]
    counts = [evaluated(run, f"{metric}_questions", last) for _, run in runs.iterrows()]
    known = [(round(share * count), round(count)) for share, count in zip(shares, counts, strict=True) if share * count >= 0]
    return sum(right for right, _ in known), sum(asked for _, asked in known)


def equal_steps(run: pd.Series, other: pd.Series) -> tuple[int, int]:
    """Training steps whose loss is the very number of another run's, and evaluations all of whose numbers are."""
    losses = (run["losses"] == other["losses"].reindex(run["losses"].index)).sum()
    mine, theirs = run["evaluations"], other["evaluations"].reindex(run["evaluations"].index)
    return int(losses), int(((mine == theirs) | (mine.isna() & theirs.isna())).all(axis=1).sum())


def step_time(runs: pd.DataFrame) -> pd.Series:
    """Seconds of the steps of these runs, the first of each left out: it warms up what the others find ready."""
    times = [run["step_times"].iloc[1:] for _, run in runs.iterrows()]
    return pd.concat(times, ignore_index=True) if times else pd.Series(dtype=float)


def written_answers(data: Data, run: pd.Series) -> pd.DataFrame:
    """Answers that a run wrote: question, expected, written, right (bool), step."""
    rows = data.convergence if run["stage"] == STAGE else data.loopback
    rows = rows[(rows["run_id"] == run["run_id"]) & (rows["metric"] == "answer") & (rows["note"] != "")]
    lines = [
        json.loads(note) | {"right": value == 1, "step": step} for note, value, step in rows[["note", "value", "step"]].values
    ]
    return pd.DataFrame(lines, columns=["question", "expected", "written", "right", "step"])
