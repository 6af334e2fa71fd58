"""Examples of a data source by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice

import numpy as np

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.data.examples import ALL, SPLITS, Example
from private_lora.specs.data import DATASETS

AT_ONCE = 1000  # examples that are tokenized together


def _source(name: str):
    """The module of a data source; UserError with the known names for any other name."""
    check_name("data", name, DATASETS)
    return import_module(DATASETS[name].module)


@dataclass(frozen=True)
class Divided:
    """Examples to train on and to evaluate on, and how many were passed over before, being too long."""

    train: list[Example]
    held_out: list[Example]
    passed_over: int = 0


def validate_data(
    name: str, options: dict, train_examples: int = 0, test_examples: int = 0, held_out: str = "by_prompt"
) -> None:
    """Nothing, or UserError: wrong name or options, unreadable, malformed or (given counts) too few examples.

    Local files are read from end to end. A hub dataset is not fetched, and random tokens are no texts: there, only options are
    checked. How long a text is, no tokenizer says here.
    """
    _source(name).validate(options)
    if not DATASETS[name].is_local:
        return
    load_divided(name, options, train_examples, test_examples, seed=0, held_out=held_out)


def load_examples(name: str, options: dict, split: str, count: int, seed: int) -> list[Example]:
    """`count` examples of the "train" or "test" split, the same for the same arguments.

    No prompt (of `codebase`: no chunk) is in both splits, unless the two files or splits that the user
    named share it. Generated problems and source files are drawn in an order that depends on the seed;
    JSONL and hub records are taken from the beginning, as in the paper's code. UserError if there are
    fewer than `count`.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    return _taken(name, f"{split} examples", _source(name).examples(options, split, seed), count)


def load_divided(
    name: str,
    options: dict,
    train: int,
    test: int,
    seed: int,
    held_out: str = "by_prompt",
    fits: Callable[[list[Example]], list[bool]] | None = None,
) -> Divided:
    """So many examples to train on and to evaluate on, of those that fit; held_out: as in a run's spec.

    Drawn as Concrete ML's scripts draw them, by `datasets.Dataset.train_test_split(test_size=test, seed=0)` of what fits: one
    permutation, first the held-out examples, then those of training. Equal prompts may then be on both sides. UserError if
    there are fewer than asked for.
    """
    source, kept = _source(name), _Fitting(fits)
    what = "examples" if fits is None else "examples that fit"
    if held_out == "by_prompt":
        trained = _taken(name, f"train {what}", kept(source.examples(options, "train", seed)), train)
        passed_over = kept.passed_over
        return Divided(trained, _taken(name, f"test {what}", kept(source.examples(options, "test", 0)), test), passed_over)
    every = list(kept(source.examples(options, ALL, 0)))
    if held_out == "drawn":
        every = [every[i] for i in np.random.default_rng(0).permutation(len(every))]
    taken = _taken(name, what, every, test + train)
    return Divided(taken[test:], taken[:test], kept.passed_over)


class _Fitting:
    """Those of some examples that fit, or all where nothing is asked; counts the others."""

    def __init__(self, fits: Callable[[list[Example]], list[bool]] | None):
        self._fits, self.passed_over = fits, 0

    def __call__(self, examples: Iterable[Example]) -> Iterator[Example]:
        if self._fits is None:
            yield from examples
            return
        examples = iter(examples)
        while part := list(islice(examples, AT_ONCE)):
            for example, fits in zip(part, self._fits(part), strict=True):
                if fits:
                    yield example
                else:
                    self.passed_over += 1


def _taken(name: str, what: str, examples: Iterable[Example], count: int) -> list[Example]:
    """The first so many."""
    taken = list(islice(examples, count))
    if len(taken) < count:
        raise UserError(
            f"Data {name} has {len(taken)} {what} and {count} were asked for: ask for fewer, or for data that has more."
        )
    return taken
