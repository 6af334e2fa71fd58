"""Generated math word problems with worked answers, in the form of GSM8K: steps, then `#### answer`.

A problem is a template and its numbers. All of them are enumerated, and the hash of (template, numbers) says
on which side of the train/test split a problem lies, so the two sides share no problem whatever the counts
and seeds. The seed draws the order and the names and things of the story, which make no new problem.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from private_lora.data.examples import Example, check_options

NAMES = (
    "Anna", "Ben", "Clara", "Emma", "Eva", "Felix", "Grace", "Hugo", "Jack", "Kate",
    "Leo", "Lily", "Mia", "Nina", "Noah", "Omar", "Paul", "Rosa", "Sam", "Tom",
)  # fmt: skip
THINGS = (
    "apples",
    "books",
    "cards",
    "coins",
    "cups",
    "eggs",
    "pens",
    "seeds",
    "shells",
    "stamps",
    "stones",
    "toys",
)

SMALLEST, LARGEST = 2, 999  # of every printed number: no "1 apples", and at most three digits
TEST_SHARE = 10  # one problem in ten is a test problem

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Template:
    """Wording and arithmetic of one kind of problem.

    `ranges` span the numbers a, b, c, d of the question. `solve` gives the results x, y, z of the worked
    steps in order, the last being the answer, or None where the numbers make no problem (a division with a
    rest, say).
    """

    name: str
    ranges: tuple[range, ...]
    solve: Callable[..., Numbers | None]
    question: str
    steps: str

    def problems(self) -> Iterator[Numbers]:
        """Every choice of numbers that makes a problem, in a fixed order."""
        for numbers in product(*self.ranges):
            results = self.solve(*numbers)
            if results and all(SMALLEST <= value <= LARGEST for value in results):
                yield numbers

    def example(self, numbers: Numbers, name: str, friend: str, things: str) -> Example:
        """The problem as text."""
        results = self.solve(*numbers)
        fields = dict(zip("abcd", numbers, strict=False)) | dict(zip("xyz", results, strict=False))
        fields |= {"name": name, "friend": friend, "things": things}
        answer = str(results[-1])
        completion = f"{self.steps.format(**fields)}\n#### {answer}"
        return Example(self.question.format(**fields) + "\n", completion, answer)


def _quotient(a: int, b: int) -> Numbers | None:
    return (a // b,) if a % b == 0 else None


def _remainder(a: int, b: int) -> Numbers:
    return a // b, a // b * b, a % b


def _share(a: int, b: int, c: int, d: int) -> Numbers | None:
    total = a * b + c
    return (a * b, total, total // d) if total % d == 0 else None


def _rate(a: int, b: int, c: int) -> Numbers | None:
    return (a // b, a // b * c) if a % b == 0 and b != c else None


TEMPLATES = (
    Template(
        "add", (range(2, 61), range(2, 41)), lambda a, b: (a + b,),
        "{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
        "{name} has {a}+{b}={x} {things}.",
    ),
    Template(
        "subtract", (range(10, 91), range(2, 61)), lambda a, b: (a - b,),
        "{name} has {a} {things} and gives {b} to {friend}. How many are left?",
        "There are {a}-{b}={x} {things} left.",
    ),
    Template(
        "multiply", (range(2, 41), range(2, 25)), lambda a, b: (a * b,),
        "Each box holds {a} {things}. How many {things} are in {b} boxes?",
        "The boxes hold {a}*{b}={x} {things}.",
    ),
    Template(
        "divide", (range(4, 401), range(2, 21)), _quotient,
        "{name} shares {a} {things} among {b} friends. How many does each get?",
        "Each friend gets {a}/{b}={x} {things}.",
    ),
    Template(
        "remainder", (range(10, 100), range(4, 16)), _remainder,
        "{name} packs {a} {things} into full boxes of {b}. How many are left over?",
        "{x} full boxes hold {x}*{b}={y} {things}.\nThere are {a}-{y}={z} {things} left over.",
    ),
    Template(
        "change", (range(2, 16), range(2, 10), range(20, 101, 10)), lambda a, b, c: (a * b, c - a * b),
        "{name} buys {b} {things} for {a} dollars each and pays with {c} dollars. What is the change?",
        "The {things} cost {a}*{b}={x} dollars.\nThe change is {c}-{x}={y} dollars.",
    ),
    Template(
        "pages", (range(4, 31), range(2, 9), range(50, 151, 10)), lambda a, b, c: (a * b, c - a * b),
        "{name} reads {a} pages an hour for {b} hours. The book has {c} pages. How many pages are left?",
        "{name} reads {a}*{b}={x} pages.\nThere are {c}-{x}={y} pages left.",
    ),
    Template(
        "times_as_many", (range(2, 41), range(2, 13)), lambda a, b: (a * b, a + a * b),
        "{name} has {a} {things}. {friend} has {b} times as many. How many do they have together?",
        "{friend} has {a}*{b}={x} {things}.\nTogether they have {a}+{x}={y} {things}.",
    ),
    Template(
        "more_than", (range(2, 51), range(2, 31)), lambda a, b: (a + b, a + a + b),
        "{name} has {a} {things}. {friend} has {b} more than {name}. How many do they have together?",
        "{friend} has {a}+{b}={x} {things}.\nTogether they have {a}+{x}={y} {things}.",
    ),
    Template(
        "wage", (range(5, 21), range(2, 9), range(2, 7)), lambda a, b, c: (a * b, a * b * c),
        "{name} earns {a} dollars an hour and works {b} hours a day. How much is that in {c} days?",
        "{name} earns {a}*{b}={x} dollars a day.\nIn {c} days that is {x}*{c}={y} dollars.",
    ),
    Template(
        "speed", (range(10, 241), range(2, 9), range(2, 10)), _rate,
        "A train goes {a} miles in {b} hours. How far does it go in {c} hours?",
        "The train goes {a}/{b}={x} miles an hour.\nIn {c} hours it goes {x}*{c}={y} miles.",
    ),
    Template(
        "share", (range(2, 9), range(2, 13), range(2, 21), range(2, 7)), _share,
        "{name} buys {a} bags of {b} {things} and finds {c} more. {d} friends share them. "
        "How many does each get?",
        "The bags hold {a}*{b}={x} {things}.\nIn all there are {x}+{c}={y}.\nEach friend gets {y}/{d}={z}.",
    ),
)  # fmt: skip


def is_test(template: Template, numbers: Numbers) -> bool:
    """Whether a problem belongs to the test side: by the SHA-256 of its template's name and numbers alone."""
    key = f"{template.name} {' '.join(map(str, numbers))}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % TEST_SHARE == 0


@lru_cache(maxsize=2)
def problems(split: str) -> tuple[tuple[Numbers, ...], ...]:
    """All problems of a split ("train" or "test"), one tuple of number choices for each template."""
    wanted = split == "test"
    return tuple(tuple(n for n in t.problems() if is_test(t, n) == wanted) for t in TEMPLATES)


def generate(split: str, seed: int) -> Iterator[Example]:
    """Every problem of a split once, in an order drawn from the seed.

    All templates come up equally often, until one is used up. A shorter draw is the beginning of a longer
    one with the same seed.
    """
    rng = np.random.default_rng([seed, split == "test"])
    pools = problems(split)
    queues = [iter(rng.permutation(len(pool))) for pool in pools]
    open_templates = list(range(len(TEMPLATES)))
    while open_templates:
        chosen = open_templates[rng.integers(len(open_templates))]
        index = next(queues[chosen], None)
        if index is None:
            open_templates.remove(chosen)
            continue
        name, friend = rng.choice(len(NAMES), size=2, replace=False)
        things = THINGS[rng.integers(len(THINGS))]
        yield TEMPLATES[chosen].example(pools[chosen][index], NAMES[name], NAMES[friend], things)


def validate(options: dict) -> None:
    """Nothing, or UserError: the generator takes no options."""
    check_options("math_problems", options)


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """The examples of a split, as `private_lora.data.examples.load_examples` asks for them."""
    validate(options)
    return generate(split, seed)
