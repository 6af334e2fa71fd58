"""Acceptance figures of a real LLM on a knowledge base: answers, equality to the exact integers, what was forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from private_lora.publish.tables.claim import Claim, said
from private_lora.publish.tables.knowledge import knowledge_lines, loss_change
from private_lora.publish.tables.knowledge_runs import IN_PROCESS, equal_steps, knowledge_runs, twins
from private_lora.results.labels import ids_of
from private_lora.results.reader import Data
from private_lora.results.runs import OK

DATASET = "knowledge_base"
LEAST_ANSWERED = 95.0
MOST_FORGOTTEN = 2.0
FORGOTTEN = {
    "general_loss": "general text of the rehearsed kind",
    "unrehearsed_loss": "general text of a kind that was not rehearsed",
}
SETTING = ["model", "dataset", "study", "steps", "tokens_per_step", "lora_rank"]
WIDTHS = ["quantizer", "bits"]


def knowledge_claims(data: Data) -> Iterator[Claim]:
    """Answered under encryption, equal to the integers in process and through workers, little forgotten, as good as float."""
    lines, runs = knowledge_lines(data), knowledge_runs(data)
    yield _answered(lines)
    packed, here = runs["backend"] == "packed", runs["arrangement"] == IN_PROCESS
    yield _equal(runs, runs[packed & here], "packed")
    yield _equal(runs, runs[packed & ~here], "packed at workers")
    for metric, text in FORGOTTEN.items():
        yield _forgotten(runs[runs["backend"].isin(["integer", "packed"]) & here], metric, text)
    yield _beside_float(lines[lines["arrangement"] == IN_PROCESS])


def _most_asked(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of the knowledge base whose runs were asked the most questions: shorter ones are there to be quick."""
    found = lines[lines["dataset"] == DATASET]
    each = found["questions"] / found["seeds"]
    return found[each == each.max()]


def _answered(lines: pd.DataFrame) -> Claim:
    found = _most_asked(lines)
    found = found[found["backend"] == "packed"]
    text = "{exact_match_after_percent:.1f} % [{exact_match_after_percent_low:.1f}, {exact_match_after_percent_high:.1f}] of "
    text += "{questions:.0f} questions ({arrangement}, {steps:.0f} steps), before {exact_match_before_percent:.1f} %, "
    text += "guessing {guessing_percent:.1f} %"
    name = f"real LLM, packed on {DATASET}: exact match on unseen wordings, in percent"
    return Claim(name, found["exact_match_after_percent"], found, LEAST_ANSWERED, True, detail=said(found, text))


def _equal(runs: pd.DataFrame, chosen: pd.DataFrame, name: str) -> Claim:
    """A run that failed has no finite value, which misses the target; one without its integer run says nothing."""
    unequal, behind, counts = [], [], []
    for _, run in chosen.iterrows():
        integer = twins(runs, run).integer
        if integer is None and run["status"] == OK:
            continue
        sizes = len(run["losses"]), len(run["evaluations"])
        differing = np.nan if run["status"] != OK else sum(sizes) - sum(equal_steps(run, integer))
        unequal.append(differing)
        behind.append({"basis": run["basis"], "machine": run["machine"], "run_ids": ids_of(run, integer)})
        counts.append(f"{run['model']}, {run['dataset']}: {sizes[0]} steps, {sizes[1]} evaluations")
    text = f"real LLM, {name}: training losses, and evaluations with exact match, that are not integer's to the last digit"
    lines = pd.DataFrame(behind, columns=["basis", "machine", "run_ids"])
    return Claim(text, pd.Series(unequal, dtype=float), lines, 0, target="0", detail="; ".join(counts))


def _forgotten(runs: pd.DataFrame, metric: str, what: str) -> Claim:
    change = loss_change(runs, metric).set_axis(runs.index)
    known = change.notna() | (runs["status"] != OK)
    detail = ", ".join(f"{run['dataset']} {run['label']} seed {run['seed']:.0f}" for _, run in runs[known].iterrows())
    text = f"real LLM, integer and packed: rise of the loss of {what}, in percent"
    return Claim(text, change[known], runs[known], MOST_FORGOTTEN, detail=detail)


def _beside_float(lines: pd.DataFrame) -> Claim:
    """Percentage points by which integer's exact match lies outside float's interval, at the widths that were encrypted."""
    lines = _most_asked(lines)
    asked = lines[lines["exact_match_after_percent"].notna()]
    integer, plain, packed = (asked[asked["backend"] == name] for name in ("integer", "float", "packed"))
    if len(packed):
        integer = integer.merge(packed[[*SETTING, *WIDTHS]].drop_duplicates(), on=[*SETTING, *WIDTHS])
    ends = plain[[*SETTING, "exact_match_after_percent", "exact_match_after_percent_low", "exact_match_after_percent_high"]]
    pairs = integer.merge(ends.assign(basis_run_ids=plain["run_ids"]), on=SETTING, suffixes=("", "_float"))
    share = pairs["exact_match_after_percent"].astype(float)
    low, high = (pairs[f"exact_match_after_percent_{end}_float"].astype(float) for end in ("low", "high"))
    outside = pd.concat([low - share, share - high], axis=1).max(axis=1).clip(lower=0)
    pairs = pairs.assign(run_ids=[ids_of(*ids) for ids in zip(pairs["run_ids"], pairs["basis_run_ids"], strict=True)])
    text = "{bits} bits {exact_match_after_percent:.1f} %, float {exact_match_after_percent_float:.1f} % "
    text += "[{exact_match_after_percent_low_float:.1f}, {exact_match_after_percent_high_float:.1f}] ({steps:.0f} steps)"
    name = f"real LLM, integer on {DATASET}: percentage points of exact match outside float's 95 % interval"
    return Claim(name, outside, pairs, 0, target="0", detail=said(pairs, text))
