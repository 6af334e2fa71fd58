"""Answer on what failed: every missed target, failing setting, run that did not end well, and disturbed line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.lines import Line, Tables
from private_lora.publish.tables.claim import FAILS, MET, MISSED, NO_DATA, NO_TARGET
from private_lora.results.runs import OK

# As the claims on a block name what a product is measured over.
OVER_FLOAT32 = "plaintext float32"


def failed(tables: Tables) -> Answer | None:
    """Targets that were missed, settings that fail, runs that did not finish, lines that were disturbed: each of them."""
    claims, runs = tables["claims"], tables["runs"]
    by_verdict = {verdict: [line for line in claims if line["verdict"] == verdict] for verdict in (MET, MISSED, FAILS, NO_DATA)}
    unfinished = [line for line in runs if line["status"] not in (None, OK)]
    disturbed = [line for name in tables for line in tables[name] if line["disturbed"]]
    if len(by_verdict[NO_DATA]) == len([line for line in claims if line["verdict"] != NO_TARGET]) and not runs:
        return None
    missed, fails = by_verdict[MISSED], by_verdict[FAILS]
    said = [
        f"{counted(len(missed), 'target')} missed and {len(by_verdict[MET])} met",
        f"{counted(len(fails), 'setting')} of bits and quantizer failed",
        f"{len(unfinished)} of {counted(len(runs), 'run')} did not end well",
        f"{counted(len(disturbed), 'line')} of tables rest on disturbed measurements",
        f"{counted(len(by_verdict[NO_DATA]), 'claim')} without data here",
    ]
    more = [*_claims(missed, claims), *_claims(fails, claims), *(_run(line) for line in unfinished), *_disturbed(disturbed)]
    return answer(f"{'; '.join(said)}.", [], more)


def _claims(lines: list[Line], claims: list[Line]) -> Iterable[Sentence]:
    for line in lines:
        value = line.text("value") or "no finite value"
        text = f"{line['verdict']}: {line['claim']}: {value}, target {line['target']}{_over_others(line, claims)}."
        yield Sentence(text, (line,))


def _over_others(line: Line, claims: list[Line]) -> str:
    """The same ratio over the other plaintext products, which stand behind that over float32 in the table."""
    stem, over_float32, _ = line["claim"].partition(OVER_FLOAT32)
    if not over_float32:
        return ""
    behind = takewhile(lambda other: other["claim"] != line["claim"] and other["claim"].startswith(stem), claims[line.row :])
    said = [f"{other['claim'].rpartition(' ')[2]} {other.text('value')}" for other in behind if other["value"] is not None]
    return f" (over {', '.join(said)})" if said else ""


def _run(line: Line) -> Sentence:
    return Sentence(f"Run `{line['run_id']}`: {line['status']}.", (line,))


def _disturbed(lines: list[Line]) -> Iterable[Sentence]:
    for name in dict.fromkeys(line.table for line in lines):
        found = [line for line in lines if line.table == name]
        reasons = listed(dict.fromkeys(str(line["disturbed"]) for line in found))
        yield Sentence(f"Disturbed in the table `{name}`: {counted(len(found), 'line')} ({reasons}).", tuple(found))
