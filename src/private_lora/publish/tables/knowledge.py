"""Table of what a real LLM learned: questions answered before and after, losses, what was forgotten, encryption and time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.publish.shared import once
from private_lora.publish.tables.convergence import describe_status, mean_of_finite, spread
from private_lora.publish.tables.intervals import wilson
from private_lora.publish.tables.knowledge_runs import (
    IN_PROCESS,
    OTHER_TEXTS,
    Twins,
    equal_steps,
    evaluated,
    knowledge_runs,
    right_and_asked,
    step_time,
    twins,
)
from private_lora.results.labels import ids_of, join_basis
from private_lora.results.reader import Data

KEYS = [
    "model",
    "dataset",
    "study",
    "arrangement",
    "backend",
    "quantizer",
    "bits",
    "constant_rows",
    "device",
    "machine",
    "steps",
]
KEYS += ["step_tokens", "lora_rank", "variant"]
# Names of shares in the table, by metric.
SHARES = {
    "exact_match": "exact_match",
    "exact_match_unanswerable": "unanswerable",
    "generated_exact_match": "generated",
}
COLUMNS = [
    "model",
    "dataset",
    "variant",
    "arrangement",
    "backend",
    "quantizer",
    "bits",
    "machine",
    "steps",
    "tokens_per_step",
    "lora_rank",
    "seeds",
    "questions",
    *[f"exact_match_{when}_percent{end}" for when in ("before", "after") for end in ("", "_low", "_high")],
    "guessing_percent",
    *[f"unanswerable_after_percent{end}" for end in ("", "_low", "_high")],
    *[f"generated_after_percent{end}" for end in ("", "_low", "_high")],
    *[f"{name}_{end}" for name in ("loss_before", "loss_after") for end in ("mean", "min", "max")],
    *[f"{name}_{when}" for name in OTHER_TEXTS for when in ("before", "after")],
    *[f"{name}_change_percent_{end}" for name in OTHER_TEXTS for end in ("mean", "min", "max")],
    "bits_per_byte_before",
    "bits_per_byte_after",
    "losses_equal_to_integer",
    "evaluations_equal_to_integer",
    "remote_matmuls",
    "encrypted_matmuls",
    "security_bits",
    "ciphertext_GB",
    "ciphertext_MB_per_train_token",
    *[f"step_time_s_{end}" for end in ("median", "min", "max")],
    "step_time_over_float",
    "step_time_over_integer",
    "client_peak_MB",
    "status",
    "basis",
    "run_ids",
]


@once
def knowledge_lines(data: Data) -> pd.DataFrame:
    """The lines of the table, with `study`, the variant of the runs in process that each stands beside, besides."""
    runs = knowledge_runs(data)
    groups = runs.groupby(KEYS, dropna=False, sort=False) if len(runs) else ()
    lines = [_line(runs, group) for _, group in groups]
    return pd.DataFrame(lines, columns=[*COLUMNS, "study"])


def _line(runs: pd.DataFrame, group: pd.DataFrame) -> dict:
    first, beside = group.iloc[0], [twins(runs, run) for _, run in group.iterrows()]
    line = {name: first[name] for name in KEYS} | {"tokens_per_step": first["step_tokens"]}
    line |= {} if first["arrangement"] == IN_PROCESS else {"variant": first["study"]}
    line |= {"seeds": group["seed"].nunique()} | _shares(group) | _losses(group) | _cost(group) | _times(group, beside)
    line |= _equal(group, beside)
    line |= {"status": describe_status(group["status"]), "basis": join_basis(group["basis"])}
    return line | {"run_ids": ids_of(group, *[one for pair in beside for one in (pair.integer, pair.plain)])}


def _shares(group: pd.DataFrame) -> dict:
    """Shares of questions answered right, in percent, over the seeds together, with their 95 % intervals."""
    line = {"guessing_percent": 100 * mean_of_finite(group["exact_match_by_guessing"])}
    for metric, name in SHARES.items():
        for when, last in (("before", False), ("after", True)):
            right, asked = right_and_asked(group, metric, last)
            low, high = wilson(right, asked)
            stem = f"{name}_{when}_percent"
            line |= {stem: 100 * right / asked if asked else np.nan, f"{stem}_low": 100 * low, f"{stem}_high": 100 * high}
            if metric == "exact_match" and asked:
                line["questions"] = asked
    return line


def _values(group: pd.DataFrame, metric: str, last: bool) -> pd.Series:
    return pd.Series([evaluated(run, metric, last) for _, run in group.iterrows()], dtype=float)


def _losses(group: pd.DataFrame) -> dict:
    line = spread("loss_before", _values(group, "loss", False)) | spread("loss_after", _values(group, "loss", True))
    for metric in (*OTHER_TEXTS, "bits_per_byte"):
        for when, last in (("before", False), ("after", True)):
            line[f"{metric}_{when}"] = mean_of_finite(_values(group, metric, last))
    for metric in OTHER_TEXTS:
        line |= spread(f"{metric}_change_percent", loss_change(group, metric))
    return line


def loss_change(runs: pd.DataFrame, metric: str) -> pd.Series:
    """How much higher the loss of a text is after training, in percent, by run; NaN where it was not taken."""
    return 100 * (_values(runs, metric, True) / _values(runs, metric, False) - 1)


def _equal(group: pd.DataFrame, beside: list[Twins]) -> dict:
    """How many losses and evaluations are the very numbers of the integer runs; nothing for float and those themselves."""
    pairs = [(run, pair.integer) for (_, run), pair in zip(group.iterrows(), beside, strict=True) if pair.integer is not None]
    pairs = [(run, other) for run, other in pairs if run["run_id"] != other["run_id"]]
    if not pairs:
        return {}
    losses, evaluations = (sum(counts) for counts in zip(*(equal_steps(*pair) for pair in pairs), strict=True))
    steps, asked = (sum(len(run[name]) for run, _ in pairs) for name in ("losses", "evaluations"))
    return {
        "losses_equal_to_integer": f"{losses} of {steps}",
        "evaluations_equal_to_integer": f"{evaluations} of {asked}",
    }


def _cost(group: pd.DataFrame) -> dict:
    """Products, ciphertext and memory of a run, mean over the seeds, evaluations included."""
    counts = ("remote_matmuls", "encrypted_matmuls", "security_bits")
    ciphertext = group["upload_ciphertext_bytes"] + group["download_ciphertext_bytes"]
    ciphertext = ciphertext.where(ciphertext > 0)
    line = {name: mean_of_finite(group[name]) for name in counts}
    # Nothing is secure about products in the clear.
    line["security_bits"] = line["security_bits"] or np.nan
    return line | {
        "ciphertext_GB": mean_of_finite(ciphertext / 1e9),
        "ciphertext_MB_per_train_token": mean_of_finite(ciphertext / 1e6 / group["train_tokens"]),
        "client_peak_MB": mean_of_finite(group["peak_memory_bytes"] / 1e6),
    }


def _times(group: pd.DataFrame, beside: list[Twins]) -> dict:
    """Median and range of the steps, the first apart, and the median over those of the same seeds beside it on this machine."""
    times = step_time(group)
    line = {f"step_time_s_{name}": getattr(times, name)() for name in ("median", "min", "max")}
    for name, others in (
        ("float", [pair.plain for pair in beside]),
        ("integer", [pair.integer for pair in beside]),
    ):
        same = [other for other in others if other is not None and other["machine"] == group.iloc[0]["machine"]]
        same = [other for other in same if other["run_id"] not in set(group["run_id"])]
        ratio = times.median() / step_time(pd.DataFrame(same)).median() if same else np.nan
        line[f"step_time_over_{name}"] = ratio
    return line


def knowledge(data: Data) -> pd.DataFrame:
    """Per setting of the stage knowledge, and per arrangement of workers: answers, losses, forgetting, encryption and time."""
    table = knowledge_lines(data)[COLUMNS]
    table.attrs["notes"] = [
        "exact match: share of questions answered to the last token, in percent, before training and after the last step, with "
        "the 95 % Wilson interval; of knowledge_base, of wordings that were never trained on. Seeds are pooled: questions are "
        "those of all of them. They draw order and adapter anew and ask the same questions, so that the interval is of answers "
        "to these. guessing: always the likeliest answer of training on the topic, which needs no question read. "
        "unanswerable: of questions that nothing in the data answers, those of which the model says so. generated: of answers "
        "written token by token.",
        "loss: nats per answer token, mean [smallest, largest] over the seeds. general loss: of technical prose, nats per "
        "token, a kind of text of which other pieces were rehearsed in training; unrehearsed loss: of word problems, of which "
        "none were. Their changes say what was forgotten. bits per byte: of held-out text without questions.",
        "equal to integer: training steps whose loss, and evaluations of which every number, is the very number of the run of "
        "exact integers with the same seed.",
        "matmuls, ciphertext and memory: of one run (mean over the seeds), evaluations included. ciphertext MB per train "
        "token: all ciphertext of the run, that of evaluations and padding too, over the training tokens that are not padding, "
        "and so an upper bound of what a token of training takes. step time: median [smallest, largest], evaluations and the "
        "first step of each run left out; over float and integer: of the medians, same seeds and machine.",
        "arrangement: in process, or the workers that compute the products. tokens per step: padding included.",
    ]
    return table
