"""Acceptance figures of generated texts: seconds a token, prompt and pads included, and tokens that differ."""

from __future__ import annotations

from collections.abc import Iterator

from private_lora.publish.tables.claim import Claim, said
from private_lora.publish.tables.cost_claims import FULL
from private_lora.publish.tables.generation import generation
from private_lora.results.reader import Data

# Largest allowed seconds a token of FULL, in process and through workers on loopback.
IN_PROCESS, THROUGH_WORKERS = 0.5, 1.0


def generation_claims(data: Data) -> Iterator[Claim]:
    """Seconds a token of encrypted texts, and how many of their tokens are not those of the integers."""
    table = generation(data)
    packed = table[(table["backend"] == "packed") & (table["options"] == "")]
    full = packed[packed["model"].str.startswith(FULL)]
    for where, limit, runs in (
        ("in process", IN_PROCESS, full[full["workers"].isna()]),
        ("with workers on loopback", THROUGH_WORKERS, full[full["workers"].notna() & (full["link"] == "loopback")]),
    ):
        detail = said(
            runs, "token behind the first {token_time_s_median:.3g} s, prompt of {prompt_tokens:.0f} {prefill_s:.3g} s"
        )
        text = f"packed, text of {FULL} {where}: seconds a token, prompt and pads included"
        yield Claim(text, runs["text_s"] / runs["new_tokens"], runs, limit, detail=detail)
    known = packed[packed["tokens_equal_to_integer"].notna()]
    text = "packed, generated texts: tokens that differ from those of the integers"
    yield Claim(text, known["new_tokens"] - known["tokens_equal_to_integer"], known, 0, target="0")
