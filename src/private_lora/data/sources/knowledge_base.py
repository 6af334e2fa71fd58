"""The knowledge base of an invented company: facts that no model can know, each asked for in many wordings.

A world is drawn from the option `world` (a seed, 0 by default): `people` (32 by default) with an extension, a department, a
town and a first year; `products` (25) with a price, a guarantee, a town and somebody who answers for them; `rules` (22) with a
limit in euros. Every fact is asked for in six wordings to train and in two others to test. `unanswerable` (0) is how many more
are asked after people and products that the company does not have, in each split after others; their answer is UNKNOWN.

Examples come wording by wording: the first N of a split, for N facts, ask for each fact once. The `seed` of a run draws the
order of facts alone, never the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from private_lora.core.errors import UserError
from private_lora.data.examples import Example, check_options, make_example
from private_lora.data.sources.knowledge_base_wordings import COMPANY, RULES, WORDINGS

UNKNOWN = "unknown"
DEFAULTS = {"people": 32, "products": 25, "rules": 22, "unanswerable": 0, "world": 0}

FIRST_NAMES = (
    "Ada Boris Carla Dimitri Elena Fabian Greta Henrik Irene Jonas Karin Lukas Marta Nils Olga Pavel Rita Simon Teresa Ulrich "
    "Vera Walter Xenia Yusuf Zora Arthur Bianca Cedric Diana Edgar Flora Gustav Helga Ivan Julia Kurt Laura Martin Nora Oscar"
).split()
LAST_BEGINNINGS = "Bel Dar Fen Gor Hal Jor Kel Lom Mar Nor Pel Quin Ros Sar Tam Vol Wen Yar Zel Bran".split()
LAST_ENDINGS = "vik mont stra dale novi berg lund sk aro ette iki ward".split()
PRODUCT_KINDS = "pump valve lamp sensor drill scale filter clamp mixer camera".split()
PRODUCT_NAMES = (
    "Aro Bexa Cinto Dulo Ferra Gilo Hexa Iluma Jadro Kalto Lumo Mirat Nexo Orvo Pilum Quado Rivo Soluna Tavi Ultra".split()
)
DEPARTMENTS = (
    "purchasing",
    "accounting",
    "research",
    "sales",
    "legal",
    "shipping",
    "support",
    "design",
    "security",
    "training",
)
TOWNS = ("Arlsund", "Belmora", "Corvant", "Dunwick", "Estrana", "Felgard", "Gralin", "Hovik", "Istel", "Jarnow")


@dataclass(frozen=True)
class Fact:
    """What the company knows of a subject. relation: which wordings ask for it."""

    relation: str
    subject: str
    answer: str


def _options(options: dict) -> dict:
    check_options("knowledge_base", options)
    values = DEFAULTS | {key: value for key, value in options.items() if value is not None}
    for key, value in values.items():
        if value < 0:
            raise UserError(f"Option {key!r} of data knowledge_base must not be negative, not {value}.")
    limits = {"people": len(_people()), "products": len(_products()), "rules": len(RULES)}
    for key, most in limits.items():
        # Half of the names stay free, for questions after people and products that the company does not have.
        most = most if key == "rules" else most // 2
        if values[key] > most:
            raise UserError(f"Option {key!r} of data knowledge_base can be at most {most}, not {values[key]}.")
    if not values["people"] or not sum(values[key] for key in limits):
        raise UserError("Data knowledge_base needs people, who answer for its products: set people to 1 or more.")
    return values


def _people() -> list[str]:
    """All names of people, those with another first name each in front."""
    last = [beginning + ending for ending in LAST_ENDINGS for beginning in LAST_BEGINNINGS]
    return [f"{first} {last[(7 * i + 31 * turn) % len(last)]}" for turn in range(5) for i, first in enumerate(FIRST_NAMES)]


def _products() -> list[str]:
    return [
        f"{name} {kind}"
        for turn in range(5)
        for i, name in enumerate(PRODUCT_NAMES)
        for kind in [PRODUCT_KINDS[(i + 3 * turn) % len(PRODUCT_KINDS)]]
    ]


def facts(options: dict) -> tuple[list[Fact], dict[str, list[Fact]]]:
    """The facts of a world, and what it does not know: as much as asked for, other subjects for "train" than for "test"."""
    values = _options(options)
    draw = np.random.default_rng(values["world"])
    all_people, all_products = _people(), _products()
    people = [all_people[i] for i in draw.permutation(min(len(all_people), 2 * values["people"]))]
    products = [all_products[i] for i in draw.permutation(min(len(all_products), 2 * values["products"]))]
    people, strangers = people[: values["people"]], people[values["people"] :]
    products, others = products[: values["products"]], products[values["products"] :]
    known = _facts_of_people(people, draw) + _facts_of_products(products, people, draw) + _rules(values["rules"], draw)
    unknown = [Fact(fact.relation, fact.subject, UNKNOWN) for fact in _facts_of_people(strangers, draw)]
    unknown += [Fact(fact.relation, fact.subject, UNKNOWN) for fact in _facts_of_products(others, people, draw)]
    subjects = list(dict.fromkeys(fact.subject for fact in unknown))
    trained = {subjects[i] for i in draw.permutation(len(subjects))[: len(subjects) // 2]}
    parts = {"train": [f for f in unknown if f.subject in trained], "test": [f for f in unknown if f.subject not in trained]}
    return known, {split: _some(part, values["unanswerable"], draw) for split, part in parts.items()}


def _some(found: list[Fact], count: int, draw: np.random.Generator) -> list[Fact]:
    if count > len(found):
        raise UserError(f"Option 'unanswerable' of data knowledge_base can be at most {len(found)} here, not {count}.")
    return [found[i] for i in draw.permutation(len(found))[:count]]


def _facts_of_people(people: list[str], draw: np.random.Generator) -> list[Fact]:
    extensions = draw.choice(np.arange(1000, 10000), len(people), replace=False)
    found = []
    for name, extension in zip(people, extensions, strict=True):
        found.append(Fact("extension", name, str(extension)))
        found.append(Fact("department", name, str(draw.choice(DEPARTMENTS))))
        found.append(Fact("town", name, str(draw.choice(TOWNS))))
        found.append(Fact("since", name, str(draw.integers(1990, 2025))))
    return found


def _facts_of_products(products: list[str], people: list[str], draw: np.random.Generator) -> list[Fact]:
    found = []
    for name in products:
        found.append(Fact("price", name, f"{draw.integers(11, 990)} euros"))
        found.append(Fact("guarantee", name, f"{draw.integers(3, 100)} months"))
        found.append(Fact("made_in", name, str(draw.choice(TOWNS))))
        found.append(Fact("responsible", name, str(draw.choice(people))))
    return found


def _rules(count: int, draw: np.random.Generator) -> list[Fact]:
    return [Fact("rule", rule, f"{5 * draw.integers(3, 190)} euros") for rule in RULES[:count]]


def validate(options: dict) -> None:
    """Nothing, or UserError for an unknown option, or sizes that the lists of names do not allow."""
    facts(options)


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """All questions of a split, wording by wording, the facts of each in an order drawn from the seed."""
    known, unknown = facts(options)
    asked = known + unknown[split]
    draw = np.random.default_rng([seed, split == "test"])
    for turn in range(len(WORDINGS["extension"][split])):
        for i in draw.permutation(len(asked)):
            # Facts of one relation are asked for in different wordings in one turn.
            wordings = WORDINGS[asked[i].relation][split]
            question = wordings[(turn + i) % len(wordings)].format(subject=asked[i].subject, company=COMPANY)
            kind = "unanswerable" if asked[i].answer == UNKNOWN else ""
            yield make_example(question, asked[i].answer, kind=kind, topic=asked[i].relation)
