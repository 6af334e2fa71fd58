"""An answer: sentences, and the lines of tables that their numbers are read from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from private_lora.publish.report.lines import Line
from private_lora.results.labels import join_basis


@dataclass(frozen=True, eq=False)
class Sentence:
    """text: plain, but for names in `backticks`. lines: those that it speaks of."""

    text: str
    lines: tuple[Line, ...] = ()

    @property
    def basis(self) -> str:
        """How the numbers were come by, as their lines say."""
        return join_basis(part for line in self.lines for part in str(line["basis"] or "").split(" + "))

    @property
    def machines(self) -> list[str]:
        """Machines that the lines name."""
        return list(dict.fromkeys(str(line["machine"]) for line in self.lines if line["machine"]))

    @property
    def run_ids(self) -> list[str]:
        """The runs behind the lines."""
        return list(dict.fromkeys(run_id for line in self.lines for run_id in line.run_ids))


@dataclass(frozen=True, eq=False)
class Answer:
    """The sentence that answers, and those that say more."""

    sentence: Sentence
    more: tuple[Sentence, ...] = ()


def answer(text: str, lines: Iterable[Line], more: Iterable[Sentence] = ()) -> Answer:
    """An answer of one sentence, and more of them."""
    return Answer(Sentence(text, tuple(lines)), tuple(more))


def counted(number: float, noun: str, plural: str = "") -> str:
    """`1 run`, `2 runs`, `2 losses`."""
    return f"{number:,.0f} {noun if number == 1 else plural or f'{noun}s'}"


def listed(texts: Iterable[str]) -> str:
    """`a, b and c`."""
    texts = list(texts)
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
