"""Which commits a table of times is of: one for all lines of a machine, or else it says so."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from private_lora.publish.tables.disturbed import OF_TIMES
from private_lora.results.commits import Commit

ONE = "Commit behind the lines of a machine"
MANY = "Lines of one machine are of more than one commit, so that a difference between them may be one of code"


def with_commits(table: pd.DataFrame, commits: Iterable[Commit]) -> pd.DataFrame:
    """A table of times with a column `commits` before `basis`, and a note that lists them by machine; any other as it is.

    commits: of all runs. Where a line names its machine, those on that one count.
    """
    by_run: dict[str, list[Commit]] = {}
    for commit in commits:
        by_run.setdefault(commit.run_id, []).append(commit)
    if not _has_times(table):
        return table
    behind = [_behind(line, by_run) for _, line in table.iterrows()]
    if not any(behind):
        return table
    marked = table.copy()
    marked.insert(list(table.columns).index("basis"), "commits", [" ".join(dict.fromkeys(c.commit for c in b)) for b in behind])
    marked.attrs["notes"] = [*table.attrs.get("notes", ()), _note({commit for found in behind for commit in found})]
    return marked


def _has_times(table: pd.DataFrame) -> bool:
    # A table of quantities names their units instead.
    named = any(OF_TIMES.search(column) for column in table.columns) or "s" in set(table.get("unit", ()))
    return named and {"run_ids", "basis"} <= set(table.columns)


def _behind(line: pd.Series, by_run: dict[str, list[Commit]]) -> list[Commit]:
    """Of the runs behind a line: on its machine, or where they were not run there, on the first that ran them."""
    found = []
    for run_id in line["run_ids"].split():
        known = by_run.get(run_id, [])
        here = [commit for commit in known if commit.machine == line.get("machine")]
        found += here or [commit for commit in known if commit.machine == known[0].machine]
    return found


def _note(commits: set[Commit]) -> str:
    machines: dict[str, dict[str, int]] = {}
    for commit in sorted(commits, key=lambda c: (c.machine, c.commit)):
        # A name of before names had them is told apart by its instructions, where the sidecar has them.
        new = commit.instructions and not commit.machine.endswith(commit.instructions)
        runs = machines.setdefault(f"{commit.machine}{f' ({commit.instructions})' if new else ''}", {})
        runs[commit.commit] = runs.get(commit.commit, 0) + 1
    lists = [f"{name}: {', '.join(_counted(*item) for item in runs.items())}" for name, runs in machines.items()]
    plus = "; +: with uncommitted changes" if any(commit.commit.endswith("+") for commit in commits) else ""
    return f"{MANY if any(len(runs) > 1 for runs in machines.values()) else ONE}. {'; '.join(lists)}{plus}."


def _counted(commit: str, runs: int) -> str:
    return f"{commit} ({runs} run{'s' * (runs != 1)})"
