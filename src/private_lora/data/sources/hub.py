"""Examples from a dataset on the Hugging Face hub, or from its local cache.

Options: `name`, `config`, `revision`, `train_split` ("train"), `test_split` (none: a tenth of the training
split is held out by the hash of the prompt), and the fields of `private_lora.data.sources.jsonl`.
"""

from collections.abc import Iterator

from private_lora.core.errors import UserError
from private_lora.data.examples import Example, check_options
from private_lora.data.sources.jsonl import part_of, record_example


def validate(options: dict) -> None:
    """Nothing, or UserError for unknown, mistyped or missing options; nothing is fetched."""
    check_options("hub", options)
    if options.get("name") is None:
        raise UserError("Data hub needs the option name, such as openai/gsm8k.")
    if options.get("test_split") is not None and options["test_split"] == (options.get("train_split") or "train"):
        raise UserError("train_split and test_split of data hub are the same: leave test_split out to divide one split.")


def _records(options: dict, split: str):
    """The rows of one split of the dataset; UserError in one sentence if they cannot be had, whatever the
    reason.
    """
    name = options["name"]
    try:
        # Imported here: it is slow, and validating a config must not need it.
        from datasets import load_dataset

        return load_dataset(name, options.get("config"), revision=options.get("revision"), split=split)
    except Exception as error:  # the library has no common base class for its many ways to fail
        reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
        raise UserError(
            f"Cannot load split {split!r} of dataset {name!r} ({type(error).__name__}: {reason}): "
            "check its name, your network and your access, or use data jsonl."
        ) from error


def _load(options: dict, split: str) -> Iterator[Example]:
    for number, record in enumerate(_records(options, split)):
        yield record_example(record, options, f"dataset {options['name']!r}, split {split!r}, row {number}")


def examples(options: dict, split: str, seed: int) -> Iterator[Example]:
    """All examples of a split in the order of the dataset; the seed is not used."""
    validate(options)
    train_split, test_split = options.get("train_split") or "train", options.get("test_split")
    if test_split is None:
        return iter(part_of(list(_load(options, train_split)), split))
    return _load(options, test_split if split == "test" else train_split)
