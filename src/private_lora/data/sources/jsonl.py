"""Examples from JSONL files: one JSON object on each line, with the names of its fields in the options.

Options: `path` (or `train_path` alone), of which a tenth is held out by the hash of the prompt; or
`train_path` and `test_path`. Fields: `prompt_field` ("question"), `completion_field` ("answer") as in GSM8K,
and, where the answer to compare is not marked `####` in the completion, `answer_field`.
"""

import json
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.data.examples import ALL, Example, check_options, held_out, make_example


def _paths(options: dict) -> tuple[Path, Path | None]:
    """The training file, and the test file or None if one file serves for both; UserError otherwise."""
    path, train, test = (options.get(key) for key in ("path", "train_path", "test_path"))
    if (path is None) == (train is None) or (path is not None and test is not None):
        raise UserError("Data jsonl needs either the option path, or train_path with or without test_path.")
    if test is not None and Path(train).resolve() == Path(test).resolve():
        raise UserError(f"train_path and test_path are the same file {train}: give path to split it.")
    return Path(path or train), None if test is None else Path(test)


def text_field(record: dict, field: str, where: str) -> str:
    """The text of a record's field; UserError naming `where` if it is missing or is not Unicode text."""
    if field not in record:
        raise UserError(f"{where}: no field {field!r}; the fields are {', '.join(sorted(record)) or 'none'}.")
    text = record[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: field {field!r} must be a string, not {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: field {field!r} holds half a surrogate pair, which is no text.") from error
    return text


def record_example(record: dict, options: dict, where: str) -> Example:
    """The example of one record, its fields named in the options; UserError naming `where`."""
    question = text_field(record, options.get("prompt_field") or "question", where)
    field = options.get("completion_field") or "answer"
    completion = text_field(record, field, where)
    if not completion.strip():
        raise UserError(f"{where}: field {field!r} is empty, so there is nothing to learn.")
    answer_field = options.get("answer_field")
    answer = None if answer_field is None else text_field(record, answer_field, where)
    return make_example(question, completion, answer)


def _record(line: bytes, where: str) -> dict:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text.") from error
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "too large or too deep")
        raise UserError(f"{where}: not valid JSON ({reason}); each line must hold one JSON object.") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: not a JSON object but a {type(record).__name__}.")
    return record


def read_jsonl(path: Path, options: dict) -> list[Example]:
    """Every example of a file in order, blank lines aside; UserError naming file and line for the first bad
    one.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}; check the path.") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            found.append(record_example(_record(line, where), options, where))
    if not found:
        raise UserError(f"{path} is empty: it needs one JSON object on each line.")
    return found


def part_of(examples: list[Example], split: str) -> list[Example]:
    """The examples of one side of a set without a test part of its own: a tenth of the prompts is the test
    side.

    The hash of the prompt decides, so equal prompts stay together and the seed changes nothing. Of the split "all", all.
    """
    if split == ALL:
        return examples
    test_prompts = held_out(example.prompt for example in examples)
    return [example for example in examples if (example.prompt in test_prompts) == (split == "test")]


def validate(options: dict) -> None:
    """Nothing, or UserError: options, or the first bad line of any of the files."""
    check_options("jsonl", options)
    for path in _paths(options):
        if path is not None:
            read_jsonl(path, options)


def examples(options: dict, split: str, seed: int) -> list[Example]:
    """All examples of a split in the order of the file; the seed is not used."""
    check_options("jsonl", options)
    train_path, test_path = _paths(options)
    if test_path is None:
        return part_of(read_jsonl(train_path, options), split)
    return read_jsonl(test_path if split == "test" else train_path, options)
