"""Text from a split model: prompt, cache, sampling and adapter stay with the client, every frozen product is the backend's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from private_lora.core.errors import UserError
from private_lora.data.encoding import prompt_ids
from private_lora.data.examples import Example, make_example
from private_lora.data.sources.random_tokens import random_tokens
from private_lora.specs.generate import GenerateSpec
from private_lora.split.place import Place
from private_lora.split.session import Session
from private_lora.training.adapter import load_adapter, without_adapter
from private_lora.training.preparation import check_encrypted, split_base


@dataclass
class Writer:
    """A split model that is ready to generate. prompt: token ids, begin token included. tokenizer: None for an architecture."""

    spec: GenerateSpec
    model: torch.nn.Module
    tokenizer: object
    session: Session
    prompt: list[int]
    ends: set[int]

    @property
    def has_fixed_length(self) -> bool:
        """Whether all of max_new_tokens are computed, wherever the text ends."""
        return self.spec.prompt_multiple > 0 or self.spec.prompt_tokens is not None


def prepare_writer(spec: GenerateSpec, place: Place | None = None) -> Writer:
    """The spec's model, split without products backward. place: of the remote products; this process by default.

    Raises UserError on a model, adapter, prompt or plan that cannot be used.
    """

    def adapt(base: torch.nn.Module) -> torch.nn.Module:
        return without_adapter(base) if spec.adapter is None else load_adapter(base, Path(spec.adapter))

    frame, model, session = split_base(spec, adapt, place, backward=False)
    writer = Writer(spec, model.eval(), frame.tokenizer, session, _prompt(spec, frame), _ends(frame))
    _check_length(writer)
    return writer


def _prompt(spec: GenerateSpec, frame) -> list[int]:
    if spec.prompt_tokens is not None:
        return random_tokens(frame.model.config.vocab_size, 1, spec.prompt_tokens, spec.seed)["input_ids"][0].tolist()
    return _ids(make_example(_questions(spec)[0], "").prompt if spec.questions else spec.prompt, frame.tokenizer)


def _ids(text: str, tokenizer) -> list[int]:
    (ids,) = prompt_ids([Example(text, "")], tokenizer)
    if not ids:
        raise UserError("the prompt has no token: give a text to go on from")
    return ids


def asked(writer: Writer) -> Iterator[tuple[str, Writer]]:
    """Each question of the spec's file, and what writes its answer; of a spec with a prompt, that and the writer itself."""
    if writer.spec.questions is None:
        yield writer.spec.prompt or "", writer
        return
    for question in _questions(writer.spec):
        one = replace(writer, prompt=_ids(make_example(question, "").prompt, writer.tokenizer))
        _check_length(one)
        yield question, one


def _questions(spec: GenerateSpec) -> list[str]:
    try:
        lines = Path(spec.questions).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read the questions in {spec.questions}: {reason}") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UserError(f"{spec.questions} is empty: it needs one question on each line")
    return found


def _ends(frame) -> set[int]:
    """Tokens that end a text."""
    named = frame.model.config.eos_token_id
    ends = {named} if isinstance(named, int) else set(named or ())
    return ends | ({frame.tokenizer.eos_token_id} - {None} if frame.tokenizer is not None else set())


def _check_length(writer: Writer) -> None:
    positions = getattr(writer.model.config, "max_position_embeddings", None)
    wanted = len(writer.prompt) + writer.spec.max_new_tokens
    if positions and wanted > positions:
        raise UserError(
            f"a prompt of {len(writer.prompt)} tokens and max_new_tokens {writer.spec.max_new_tokens} are more than the "
            f"{positions} positions of {writer.spec.model}: shorten one of them"
        )


def write(writer: Writer, on_token: Callable[[int], None] = lambda token: None) -> list[int]:
    """The tokens of the text, without its end token; on_token: told of each as soon as it is chosen.

    Tokens that are computed behind the end, to hide where it is, are neither told nor returned.
    """
    from transformers import GenerationConfig

    spec, width = writer.spec, len(writer.prompt)
    padding = -width % spec.prompt_multiple if spec.prompt_multiple else 0
    filler = next(iter(writer.ends), 0)
    sampling = {"do_sample": True, "temperature": float(spec.temperature), "top_p": float(spec.top_p), "top_k": 0}
    writer.model.generation_config = GenerationConfig(
        max_new_tokens=spec.max_new_tokens,
        use_cache=True,
        pad_token_id=filler,
        eos_token_id=None if writer.has_fixed_length else sorted(writer.ends) or None,
        **(sampling if spec.temperature else {"do_sample": False}),
    )
    stream = _Stream(writer.ends if spec.prompt_tokens is None else set(), on_token)
    torch.manual_seed(spec.seed)
    with torch.inference_mode():
        writer.model.generate(
            input_ids=torch.tensor([[filler] * padding + writer.prompt]),
            attention_mask=torch.tensor([[0] * padding + [1] * width]),
            streamer=stream,
        )
    check_encrypted(spec, writer.session.counters.encrypted_products)
    return stream.tokens


class _Stream:
    """What transformers' `generate` gives the prompt to and then each token; keeps those before the end."""

    def __init__(self, ends: set[int], on_token: Callable[[int], None]):
        self.tokens: list[int] = []
        self._ends, self._on_token = ends, on_token
        self._has_prompt = self._has_ended = False

    def put(self, value: torch.Tensor) -> None:
        if not self._has_prompt:
            self._has_prompt = True
            return
        token = int(value)
        self._has_ended |= token in self._ends
        if not self._has_ended:
            self.tokens.append(token)
            self._on_token(token)

    def end(self) -> None:
        """Nothing: every token was told as it came."""


class Printer:
    """Shows tokens as text as they come; a character whose bytes are not all there waits for the rest."""

    def __init__(self, tokenizer, show: Callable[[str], None]):
        self._tokenizer, self._show = tokenizer, show
        self._tokens: list[int] = []
        self._shown = 0

    def __call__(self, token: int) -> None:
        if self._tokenizer is None:
            self._show(f"{token} ")
            return
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        if not text.endswith("\ufffd"):
            self._show(text[self._shown :])
            self._shown = len(text)
