"""Text for fine-tuning: examples from the built-in generator, source files, JSONL files or the model hub.

A data source is a module of this package that bears its name, described in `private_lora.specs.data.DATASETS`,
with two functions: `validate(options)` raises UserError before any work, and `examples(options, split, seed)`
gives the examples of a split in the order in which they are taken. Neither torch nor the `datasets` library
is imported to validate.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from private_lora.core.errors import UserError
from private_lora.specs.data import DATASETS

SPLITS = ("train", "test")
ALL = "all"  # a third split, of sources that are one list: `DataDescriptor.divisible`
HELD_OUT_SHARE = 10  # one key in ten is held out where a source has no test part of its own

_ANSWER = re.compile(r"####[ \t]*([^\n]*\S)")
_NUMBER = re.compile(r"(-?)\$?(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Example:
    """One text: prompt + completion. The prompt is masked in the labels, the answer is compared.

    answer: what stands behind `####` in the completion, or a field of its own; None: the completion as a whole is the answer.
    kind: of questions that are counted apart, such as those without an answer; "" for all others. topic: what is asked for,
    where the source knows; examples of one topic have answers of one form.
    """

    prompt: str
    completion: str
    answer: str | None = None
    kind: str = ""
    topic: str = ""


def make_example(question: str, completion: str, answer: str | None = None, kind: str = "", topic: str = "") -> Example:
    """The example of a question and its answer, in the form of the paper's code: question + newline + answer.

    Without an `answer` of its own, the one marked `####` in the completion is taken, if there is one.
    """
    prompt = question + "\n" if question else ""
    return Example(prompt, completion, final_answer(completion) if answer is None else normal_answer(answer), kind, topic)


def normal_answer(text: str) -> str:
    """An answer in the one spelling that is compared: "$1,250.00 ", "1250." and "1250" are the same."""
    bare = text.strip().rstrip(".").replace(",", "")
    match = _NUMBER.fullmatch(bare)
    if match is None:
        return bare
    sign, whole, decimals = match.groups()
    decimals = (decimals or "").rstrip("0")
    return sign + (whole.lstrip("0") or "0") + ("." + decimals if decimals else "")


def final_answer(text: str) -> str | None:
    """What stands behind the first `####` of a text, spelled by `normal_answer`; None without one.

    The first, because a model that misses the end token writes on, often with another problem.
    """
    match = _ANSWER.search(text)
    return normal_answer(match.group(1)) if match else None


def held_out(keys: Iterable[str]) -> set[str]:
    """A tenth of the distinct keys (at least one), the ones with the smallest SHA-256."""
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    return set(ranked[: max(1, len(ranked) // HELD_OUT_SHARE)])


def check_options(name: str, options: dict) -> None:
    """Nothing, or UserError for an unknown option or one of the wrong type. None stands for "not given"."""
    if not isinstance(options, dict):
        raise UserError(f"data_options of {name} must be a mapping, not {options!r}.")
    known = DATASETS[name].options
    for key, value in options.items():
        if key not in known:
            raise UserError(f"data {name} has no option {key!r}; known options: {', '.join(sorted(known)) or 'none'}.")
        wrong = not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool)
        if value is not None and (wrong or value == ""):
            raise UserError(f"Option {key!r} of data {name} must be a {known[key].__name__}, not {value!r}.")
