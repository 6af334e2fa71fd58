"""Acceptance figures of the block measurements: values of a run against targets, one line each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd

from private_lora.costs.model import APART, JOINT
from private_lora.publish.tables.block import block_bytes, block_summary
from private_lora.publish.tables.claim import Claim
from private_lora.results.labels import CALLS
from private_lora.results.reader import Data

# The targets were set for this model and batch.
MODEL, TOKENS = "Llama-3.2-1B", 2048
# Largest allowed ratio over the plaintext float32 products of the same process.
SERVER = {"packed": 2.0, "packed_approx": 1.0}
CLIENT = {"packed": 0.5, "packed_approx": 0.4}
# Largest allowed ratio of bytes per token over glwe's.
BYTES = {"packed": 1.0, "packed_approx": 0.6}
SIZES = ((APART, TOKENS), (JOINT, TOKENS), (APART, 8192))
LESS_THAN_GLWE = 10_000


def block_claims(data: Data) -> Iterator[Claim]:
    """Times over plaintext products and over glwe's, and bytes over glwe's, each within one arrangement of the calls."""
    latency, sizes = block_summary(data), block_bytes(data)
    for inputs, backend in itertools.product((APART, JOINT), SERVER):
        runs = _of(latency, backend, inputs)
        yield from _ratios(runs[runs["whole"].astype(bool)], backend, inputs)
    for (inputs, tokens), (backend, limit) in itertools.product(SIZES, BYTES.items()):
        runs = _of(sizes, backend, inputs, tokens)
        runs = runs[runs["total_over_glwe"].notna()]
        glwe = sizes[(sizes["backend"] == "glwe") & (sizes["model"] == MODEL) & (sizes["inputs"] == inputs)]
        what = f"bytes per token of {MODEL}, up and down, over glwe's with the same calls at {tokens:,} tokens"
        sent = runs[["total_bytes_per_token", "remote_calls"]].to_numpy(float)
        detail = ", ".join(f"{size / 1e6:.3f} MB in {calls:.0f} calls" for size, calls in sent)
        yield Claim(f"{backend}, {CALLS[inputs]}: {what}", runs["total_over_glwe"], runs, limit, detail=detail, beside=(glwe,))


def _of(table: pd.DataFrame, backend: str, inputs: str, tokens: int = TOKENS) -> pd.DataFrame:
    """Lines of the backend at its default options, times on the CPU alone, with these calls and tokens."""
    same = {"model": MODEL, "backend": backend, "options": "", "inputs": inputs, "tokens": tokens}
    same |= {"device": "cpu"} if "device" in table else {}
    return table[(table[list(same)] == pd.Series(same)).all(axis=1)]


def _ratios(runs: pd.DataFrame, backend: str, inputs: str) -> Iterator[Claim]:
    where = f"{backend}, {CALLS[inputs]}: a block at {TOKENS:,} tokens, forward and backward"
    threads = ", ".join(f"{run['threads']:.0f} threads of {run['machine']}" for _, run in runs.iterrows())
    for side, limits, what in (("server", SERVER, "server product"), ("client", CLIENT, "client's encrypt + decrypt")):
        for plaintext in ("float32", "int8", "bf16"):
            found = runs[runs[f"{side}_over_{plaintext}_median"].notna()]
            if plaintext == "bf16" and not len(found):
                continue
            limit = limits[backend] if plaintext == "float32" else None
            text = f"{where}: {what} over plaintext {plaintext}"
            yield Claim(text, found[f"{side}_over_{plaintext}_median"], found, limit, detail=threads if len(found) else "")
    if backend == "packed" and inputs == APART:
        found = runs[runs["glwe_server_time_over_this"].notna()]
        text = f"{where}: server time of glwe per token over this, on the layers glwe was measured on"
        yield Claim(text, found["glwe_server_time_over_this"], found, LESS_THAN_GLWE, True, detail=threads)
