"""Token ids, attention masks and labels from examples, and batches of them that can be asked for by
number.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from private_lora.core.errors import UserError

if TYPE_CHECKING:
    from private_lora.data.examples import Example

IGNORED = -100  # the label that cross entropy leaves out, in torch and transformers
Encoded = dict[str, np.ndarray]


def _token_lists(tokenizer, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    # verbose=False: the warning about long texts is about the model's limit, and we cut at our own.
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


def _first(token_id: int | None) -> list[int]:
    return [] if token_id is None else [token_id]


def _pad_id(tokenizer) -> int:
    """The id to fill rows with: pad, else end, else begin, else 0. Outside the attention mask any id will
    do.
    """
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0)
    return next(token_id for token_id in ids if token_id is not None)


def _question(example: "Example") -> str:
    """The prompt without the newline that parts it from the completion."""
    return example.prompt.removesuffix("\n")


def text_lengths(examples: Sequence["Example"], tokenizer) -> list[int]:
    """Tokens of each text as the paper's code counts them: question, newline and completion apart, begin and end left out.

    Concrete ML, `use_case_examples/lora_finetuning/eval.py`, `length_filter`.
    """
    questions = _token_lists(tokenizer, [_question(example) for example in examples])
    completions = _token_lists(tokenizer, [example.completion for example in examples])
    return [
        len(question) + len(completion) + example.prompt.endswith("\n")
        for example, question, completion in zip(examples, questions, completions, strict=True)
    ]


def _newline_tokens(examples: Sequence["Example"], tokenizer) -> list[int]:
    """How many tokens each prompt has more than its question alone: 0 where the newline is joined to what is before it."""
    prompts = _token_lists(tokenizer, [example.prompt for example in examples])
    questions = _token_lists(tokenizer, [_question(example) for example in examples])
    return [max(0, len(prompt) - len(question)) for prompt, question in zip(prompts, questions, strict=True)]


def _sequences(examples: Sequence["Example"], tokenizer) -> Iterator[tuple[list[int], int]]:
    """For each example its whole token ids, begin and end token included where the tokenizer has them, and
    how many of them are prompt.

    Prompt and completion are tokenized apart, so that the prompt's tokens are those that generation starts
    from.
    """
    prompts = _token_lists(tokenizer, [example.prompt for example in examples])
    completions = _token_lists(tokenizer, [example.completion for example in examples])
    begin, end = _first(tokenizer.bos_token_id), _first(tokenizer.eos_token_id)
    for prompt, completion in zip(prompts, completions, strict=True):
        yield begin + prompt + completion + end, len(begin) + len(prompt)


def prompt_ids(examples: Sequence["Example"], tokenizer) -> list[list[int]]:
    """The token ids that generation starts from: begin token and prompt, not padded."""
    begin = _first(tokenizer.bos_token_id)
    return [begin + ids for ids in _token_lists(tokenizer, [example.prompt for example in examples])]


def encoding_report(examples: Sequence["Example"], tokenizer, sequence_length: int) -> dict[str, int]:
    """Counts: examples, those cut at `sequence_length`, and those of them that `encode` leaves out."""
    sizes = [(len(ids), prompt) for ids, prompt in _sequences(examples, tokenizer)]
    return {
        "examples": len(sizes),
        "truncated": sum(total > sequence_length for total, _ in sizes),
        "left_out": sum(prompt >= sequence_length for _, prompt in sizes),
    }


def with_room(examples: Sequence["Example"], tokenizer, sequence_length: int) -> list["Example"]:
    """The examples that `encode` makes rows of, in the order of the rows."""
    sizes = _sequences(examples, tokenizer)
    return [example for example, (_, prompt) in zip(examples, sizes, strict=True) if prompt < sequence_length]


def encode(
    examples: Sequence["Example"],
    tokenizer,
    sequence_length: int,
    count_padding: bool = False,
    count_newline: bool = False,
) -> Encoded:
    """int64 arrays input_ids, attention_mask and labels, each N x sequence_length.

    A row is begin token, prompt, completion, end token, then padding; what is longer is cut, and then has no
    end token. Labels are the ids of the completion and the end token, -100 elsewhere; with `count_padding`
    the padding keeps its id as a label, as in the paper's code (the attention mask stays 0 there). With `count_newline`
    only as many tokens are masked as the question has without its newline: that of a newline which is a token of its own then
    is a label; one that the tokenizer joins to the mark before it ("?\\n") is not, as in the paper's code. A missing
    begin or end token is left out, a missing pad token replaced by the end token, which stays a label at the
    end of the text all the same: masks go by position, not by id.

    An example whose prompt alone fills the row has nothing to learn from (its mean loss would be 0/0), so it
    gets no row: see `encoding_report`. UserError if that leaves no row at all.
    """
    newlines = _newline_tokens(examples, tokenizer) if count_newline else [0] * len(examples)
    sequences = zip(_sequences(examples, tokenizer), newlines, strict=True)
    kept = [(ids, prompt - newline) for (ids, prompt), newline in sequences if prompt < sequence_length]
    if examples and not kept:
        raise UserError(
            f"All {len(examples)} prompts fill the sequence_length of {sequence_length} tokens, "
            "which leaves no room for an answer: raise sequence_length."
        )
    shape = (len(kept), sequence_length)
    pad = _pad_id(tokenizer)
    input_ids = np.full(shape, pad, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, pad if count_padding else IGNORED, dtype=np.int64)
    for row, (ids, masked) in enumerate(kept):
        ids = ids[:sequence_length]
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        labels[row, :masked] = IGNORED
        labels[row, masked : len(ids)] = ids[masked:]
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


class Batches:
    """Endless batches: the i-th depends on the rows, the batch size, the seed and i alone.

    Epochs are shuffled one by one and joined end to end, so a batch may begin in one epoch and end in the
    next, every row is used once per epoch and all batches have the same size.
    """

    def __init__(self, encoded: Encoded, batch_size: int, seed: int):
        self.encoded, self.batch_size, self.seed = encoded, batch_size, seed
        self.rows = len(encoded["input_ids"])
        if batch_size < 1 or self.rows < 1:
            raise ValueError(f"batches need at least one row and one row per batch, not {self.rows} and {batch_size}")

    def batch(self, i: int) -> Encoded:
        """The i-th batch, counted from 0: the arrays of `encode`, with batch_size rows each."""
        rows = self.indices(i)
        return {key: values[rows] for key, values in self.encoded.items()}

    def indices(self, i: int) -> np.ndarray:
        """The rows of the i-th batch."""
        if i < 0:
            raise IndexError(f"batches are counted from 0, not {i}")
        epochs, offsets = np.divmod(np.arange(i * self.batch_size, (i + 1) * self.batch_size), self.rows)
        orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(self.rows) for epoch in set(epochs)}
        return np.array([orders[epoch][offset] for epoch, offset in zip(epochs, offsets, strict=True)])


def batches(encoded: Encoded, batch_size: int, steps: int, seed: int) -> Iterator[Encoded]:
    """The first `steps` batches of `Batches`."""
    source = Batches(encoded, batch_size, seed)
    return (source.batch(i) for i in range(steps))
