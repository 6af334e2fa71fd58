"""Examples of a data source by its name."""

from __future__ import annotations

from importlib import import_module
from itertools import islice

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.data.examples import SPLITS, Example
from private_lora.specs.data import DATASETS


def _source(name: str):
    """The module of a data source; UserError with the known names for any other name."""
    check_name("data", name, DATASETS)
    return import_module(DATASETS[name].module)


def validate_data(name: str, options: dict, train_examples: int = 0, test_examples: int = 0) -> None:
    """Nothing, or UserError: wrong name or options, unreadable, malformed or (given counts) too few examples.

    Local files are read from end to end. A hub dataset is not fetched, and random tokens are no texts: there, only options are
    checked.
    """
    _source(name).validate(options)
    if not DATASETS[name].is_local:
        return
    for split, count in zip(SPLITS, (train_examples, test_examples), strict=True):
        load_examples(name, options, split, count, seed=0)


def load_examples(name: str, options: dict, split: str, count: int, seed: int) -> list[Example]:
    """`count` examples of the "train" or "test" split, the same for the same arguments.

    No prompt (of `codebase`: no chunk) is in both splits, unless the two files or splits that the user
    named share it. Generated problems and source files are drawn in an order that depends on the seed;
    JSONL and hub records are taken from the beginning, as in the paper's code. UserError if there are
    fewer than `count`.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    taken = list(islice(_source(name).examples(options, split, seed), count))
    if len(taken) < count:
        raise UserError(
            f"Data {name} has {len(taken)} {split} examples and {count} were asked for: "
            "ask for fewer, or for data that has more."
        )
    return taken
