"""Table of questions with the answers that were written before and after training."""

from __future__ import annotations

import pandas as pd

from private_lora.publish.tables.convergence import describe_status
from private_lora.publish.tables.knowledge_runs import IN_PROCESS, knowledge_runs, written_answers
from private_lora.results.labels import ids_of, join_basis
from private_lora.results.reader import Data

STUDY = ["model", "dataset", "study", "steps"]
FIRST = ["model", "dataset", "variant", "steps", "question", "expected"]
LAST = ["status", "basis", "run_ids"]
# A worked solution is longer than a cell.
LONGEST = 160


def answers(data: Data) -> pd.DataFrame:
    """One line per question of the gallery: expected answer, and what each backend wrote before and after training."""
    runs = knowledge_runs(data)
    lines = [line for _, group in (runs.groupby(STUDY, sort=False) if len(runs) else ()) for line in _lines(data, group)]
    written = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in (*FIRST, *LAST)]
    table = pd.DataFrame(lines, columns=[*FIRST, *written, *LAST])
    table.attrs["notes"] = [
        "(right), (wrong): whether the answer written is the one expected; of a worked solution, whether its result is. "
        f"before: untrained; after: at the last step; of the first seed. Texts are cut after {LONGEST} characters."
    ]
    return table


def _lines(data: Data, runs: pd.DataFrame) -> list[dict]:
    """The questions of one study, in the order in which they were asked."""
    runs = runs[runs["seed"] == runs["seed"].min()]
    written = [(run, written_answers(data, run)) for _, run in runs.iterrows()]
    written = [(run, found) for run, found in written if len(found)]
    lines: dict[str, dict] = {}
    for run, found in written:
        for _, answer in found.iterrows():
            line = lines.setdefault(
                answer["question"], {"question": _cut(answer["question"]), "expected": _cut(answer["expected"])}
            )
            when = {0: "before", run["steps"]: "after"}.get(answer["step"])
            if when:
                line[f"{when}_{_series(run)}"] = f"{_cut(answer['written'])} ({'right' if answer['right'] else 'wrong'})"
    behind = pd.DataFrame([run for run, _ in written])
    common = {"status": describe_status(behind["status"]), "basis": join_basis(behind["basis"])} if written else {}
    common |= {"model": runs.iloc[0]["model"], "dataset": runs.iloc[0]["dataset"], "variant": runs.iloc[0]["study"]}
    return [line | common | {"steps": runs.iloc[0]["steps"], "run_ids": ids_of(behind)} for line in lines.values()]


def _series(run: pd.Series) -> str:
    """Backend, widths and arrangement, as far as they tell runs of one study apart."""
    name = f"{run['backend']}_{run['bits']}_bits" if run["bits"] else run["backend"]
    return name if run["arrangement"] == IN_PROCESS else f"{name}, {run['arrangement']}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
