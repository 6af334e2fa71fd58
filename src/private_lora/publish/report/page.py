"""The page itself: questions with their answers, figures and tables, each shown once, and the runs behind them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jinja2

from private_lora.core.errors import UserError
from private_lora.core.files import atomic_path
from private_lora.publish.report.answer import Answer, Sentence
from private_lora.publish.report.lines import Tables
from private_lora.publish.report.pieces import Figure, Table, figure, table
from private_lora.publish.report.questions import OPENING, QUESTIONS, Part, Question
from private_lora.publish.report.runs import Run, runs_of, summary
from private_lora.publish.tables.claim import FAILS, MISSED
from private_lora.results.provenance import code_state
from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES

HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.jinja", "page.css", "page.js"
# Lines that are named below a sentence; there may be hundreds.
NAMED_LINES = 4


@dataclass(frozen=True)
class Answered:
    """A part with its answer (None: not run), and the figures and tables that stand here, or stood before."""

    part: Part
    answer: Answer | None
    figures: list[Figure]
    tables: list[Table]
    figures_above: list[Figure]
    tables_above: list[Table]


@dataclass
class Report:
    """What the template shows. results: directory of the study, whose tables and figures of these names are shown."""

    results: Path
    recorded: Path
    table_names: list[str]
    figure_names: list[str]
    _shown: set[tuple[str, str]] = field(default_factory=set)

    @cached_property
    def tables(self) -> Tables:
        """Lines of the tables."""
        return Tables(self.results / "tables", self.table_names)

    @cached_property
    def figure_pieces(self) -> dict[str, Figure]:
        """Figures that have points, by name."""
        made = {name: figure(PUBLISHED_FIGURES[name], self.results / "figures") for name in self.figure_names}
        return {name: piece for name, piece in made.items() if piece}

    @cached_property
    def table_pieces(self) -> dict[str, Table]:
        """Tables that have rows, by name."""
        made = {name: table(PUBLISHED_TABLES[name], self.tables) for name in self.table_names}
        return {name: piece for name, piece in made.items() if piece}

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Runs behind the tables, by id."""
        return runs_of(self.tables.run_ids, self.results, self.recorded)

    @cached_property
    def about(self) -> dict:
        """Machines, commits and dates of the runs, and the commit that made the page."""
        return summary(self.runs.values()) | {"page": code_state()["commit"][:10]}

    @cached_property
    def answers(self) -> dict[str, Answer | None]:
        """The answer of each part, by its key."""
        return {part.key: part.answer(self.tables) for question in QUESTIONS for part in question.parts}

    @cached_property
    def opening(self) -> tuple[Question, Answered] | None:
        """The result that stands at the top: its question, and its part with the figures alone; None where nothing was run."""
        homes = {part.key: (question, part) for question in QUESTIONS for part in question.parts}
        key = next((key for key in OPENING if self.answers[key]), None)
        if key is None:
            return None
        question, part = homes[key]
        return question, Answered(part, self.answers[key], self._new("figure", part.figures), [], [], [])

    @cached_property
    def questions(self) -> list[tuple[Question, list[Answered]]]:
        """Every question with its answered parts; the opening comes first, so that its figure is not shown again."""
        _ = self.opening
        return [(question, [self._answered(part) for part in question.parts]) for question in QUESTIONS]

    @cached_property
    def rest(self) -> tuple[list[Figure], list[Table], list[str]]:
        """Figures and tables that no question shows, and the names of tables and figures without any number."""
        _ = self.questions
        empty = [f"table `{name}`" for name in self.table_names if name not in self.table_pieces]
        empty += [f"figure `{name}`" for name in self.figure_names if name not in self.figure_pieces]
        return self._new("figure", self.figure_pieces), self._new("table", self.table_pieces), empty

    def _answered(self, part: Part) -> Answered:
        figures, tables = self._new("figure", part.figures), self._new("table", part.tables)
        above = [[self._pieces(kind)[name] for name in names if name in self._pieces(kind)] for kind, names in
                 (("figure", part.figures), ("table", part.tables))]  # fmt: skip
        seen = [[piece for piece in pieces if piece not in new] for pieces, new in zip(above, (figures, tables), strict=True)]
        return Answered(part, self.answers[part.key], figures, tables, *seen)

    def _pieces(self, kind: str) -> dict:
        return self.figure_pieces if kind == "figure" else self.table_pieces

    def _new(self, kind: str, names: Iterable[str]) -> list:
        """The pieces of these names that were not shown before."""
        new = [name for name in names if name in self._pieces(kind) and (kind, name) not in self._shown]
        self._shown |= {(kind, name) for name in new}
        return [self._pieces(kind)[name] for name in new]

    def machines(self, sentence: Sentence) -> list[str]:
        """Machines of the lines that a sentence speaks of, or else of the runs behind them."""
        names = sentence.machines or [self.runs[run_id].machine for run_id in sentence.run_ids if run_id in self.runs]
        return list(dict.fromkeys(part for name in names for part in name.split("; ") if part))


def alt(piece: Figure, answer: Answer | None) -> str:
    """What a figure shows, for those who do not see it: its title, and the finding, or else how it is drawn."""
    return f"{piece.title}. {answer.sentence.text if answer else piece.caption}".replace("`", "")


def marked_up(text: str) -> str:
    """HTML of a sentence: names in `backticks`, words in *asterisks*, and the verdict that it may begin with, marked."""
    escaped = html.escape(text, quote=False)
    named = re.sub(r"\*([^*\s][^*]*)\*", r"<em>\1</em>", re.sub(r"`+([^`]*)`+", r"<code>\1</code>", escaped))
    return re.sub(rf"^({MISSED}|{FAILS}):", r'<strong class="is-missed">\1</strong>:', named)


def write_report(
    results: Path, out: Path, recorded: Path, tables: list[str] | None = None, figures: list[str] | None = None
) -> None:
    """Write the page of a study.

    results: its directory, with `tables` and `figures`. recorded: of recorded machines, for sidecars. tables, figures: names;
    all that are there, if None. UserError where there is no table.
    """
    tables = _made(results / "tables", PUBLISHED_TABLES) if tables is None else tables
    figures = _made(results / "figures", PUBLISHED_FIGURES) if figures is None else figures
    if not any((results / "tables" / f"{name}.csv").is_file() for name in tables):
        raise UserError(f"no tables in {results / 'tables'}: run the study first, or give another --results")
    with atomic_path(out, shared=True) as temporary:
        temporary.write_text(_rendered(Report(results, recorded, tables, figures)), encoding="utf-8")


def _made(directory: Path, known: dict) -> list[str]:
    return [name for name in known if (directory / f"{name}.csv").is_file()]


def _rendered(report: Report) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"marked_up": lambda text: jinja2.filters.Markup(marked_up(text))}
    texts = {name: (HERE / file).read_text(encoding="utf-8") for name, file in (("style", STYLE), ("script", SCRIPT))}
    return environment.get_template(TEMPLATE).render(report=report, alt=alt, named_lines=NAMED_LINES, **texts)
