"""Where the numbers of a page come from: records, machine, commit and date of the runs behind its cells."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from private_lora.core.errors import UserError
from private_lora.core.paths import ROOT
from private_lora.publish.docs.tables import Row
from private_lora.results.sidecars import machine_of, read_sidecars

HEADING = "Where the numbers come from"
RECORDED = ROOT / "config" / "recorded.yaml"


class Sources:
    """Sidecars of the records that a configuration publishes, by run."""

    def __init__(self, config: Path = RECORDED):
        content = yaml.safe_load(config.read_text())
        self._directories = [content["recorded"], *content.get("beside", ())]

    def section(self, rows: Iterable[Row], published: Iterable[Row] = ()) -> str:
        """The end of a page, in Markdown."""
        lines = [f"| {' | '.join(cells)} |" for cells in self._lines(rows)]
        head = ["| tables | records | machine | commit | date |", "|---|---|---|---|---|"] if lines else []
        return "\n".join([f"## {HEADING}", "", *head, *lines, *_published(published)]).strip() + "\n"

    def sidecar(self, row: Row) -> dict:
        """Of the run whose row it is, which is the first of the runs behind it; UserError if there is none."""
        found = self._of(row.run_ids[0], row.values.get("machine")) if row.run_ids else []
        if not found:
            raise UserError(f"no sidecar says what table {row.table}, row {row.number}, ran")
        return found[0][1]

    def _lines(self, rows: Iterable[Row]) -> list[tuple[str, ...]]:
        """One for each machine and commit of a directory of records, with the tables whose cells came from there."""
        found: dict[tuple[str, str, str], tuple[set[str], set[str]]] = {}
        for row in rows:
            for run_id in row.run_ids:
                for directory, sidecar in self._of(run_id, row.values.get("machine")):
                    environment = sidecar.get("environment", {})
                    key = (directory, machine_of(environment) or "not recorded", _commit(environment))
                    tables, dates = found.setdefault(key, (set(), set()))
                    tables.add(row.table)
                    dates.add(environment.get("started_at", "")[:10])
        return [
            (_code(*sorted(tables)), _code(f"{directory}/"), machine, commit, _span(dates))
            for (directory, machine, commit), (tables, dates) in sorted(found.items())
        ]

    def _of(self, run_id: str, machine: str | None) -> list[tuple[str, dict]]:
        """Directories and sidecars of a run; where several machines ran it, those of the machine that the row names."""
        known = [(directory, _sidecars(directory)) for directory in self._directories]
        found = [(directory, sidecars[run_id]) for directory, sidecars in known if run_id in sidecars]
        if len(found) < 2 or not machine:
            return found
        return [(directory, sidecar) for directory, sidecar in found if machine_of(sidecar["environment"]) == machine]


@cache
def _sidecars(directory: str) -> dict[str, dict]:
    return read_sidecars(ROOT / directory / "sidecars.jsonl")


def _published(rows: Iterable[Row]) -> list[str]:
    """What was published, by file, source and certainty."""
    settings: dict[str, list[str]] = {}
    for row in rows:
        source = f"(`resources/reference/{row.table}`: {row['source']}; {row['certainty']})"
        settings.setdefault(source, []).append(str(row["configuration"]))
    lines = [f"- {'; '.join(dict.fromkeys(names))} {source}" for source, names in settings.items()]
    return ["", "Published values:", "", *lines] if lines else []


def _commit(environment: dict) -> str:
    commit, dirty = environment.get("commit"), environment.get("dirty")
    if not commit:
        return "not recorded"
    states = {True: " with uncommitted changes", False: "", None: ", uncommitted changes not recorded"}
    return f"`{commit[:7]}`{states[dirty]}"


def _span(dates: set[str]) -> str:
    known = sorted(dates - {""})
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else "not recorded"


def _code(*names: str) -> str:
    return ", ".join(f"`{name}`" for name in names)
