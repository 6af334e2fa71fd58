"""Acceptance figures of the block measurements: values of a run against targets, one line each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd

from private_lora.publish.tables.block import block_bytes, block_summary
from private_lora.results.reader import Data

MODEL, TOKENS = "Llama-3.2-1B", 2048
# Largest allowed ratio over the plaintext float32 products of the same process.
SERVER = {"packed": 2.0, "packed_approx": 1.0}
CLIENT = {"packed": 0.5, "packed_approx": 0.4}
# Largest allowed ratio of bytes per token over glwe's.
BYTES = {"packed": 1.0, "packed_approx": 0.6}
SIZES = (("apart", TOKENS), ("joint", TOKENS), ("apart", 8192))
LESS_THAN_GLWE = 10_000


def block_claims(data: Data) -> Iterator[tuple]:
    """Text, values by run, target, limit (None without one), whether the limit is a least value, bases, detail."""
    latency, sizes = block_summary(data), block_bytes(data)
    for inputs in ("apart", "joint"):
        for backend in SERVER:
            runs = _of(latency, backend, inputs)
            runs = runs[runs["whole"].astype(bool)]
            yield from _ratios(runs, backend, inputs)
    for (inputs, tokens), (backend, limit) in itertools.product(SIZES, BYTES.items()):
        runs = _of(sizes, backend, inputs, tokens)
        text = f"{backend}, layers {inputs}: bytes per token of {MODEL}, up and down, over glwe's at {tokens:,} tokens"
        detail = ", ".join(f"{v / 1e6:.3f} MB" for v in runs["total_bytes_per_token"])
        values = runs["total_over_glwe"].astype(float).dropna()
        bases = [part for basis in {*runs["basis"], *_of(sizes, "glwe")["basis"]} for part in basis.split(" + ")]
        yield text, values, f"<= {limit:g}", limit, False, bases, detail


def _of(table: pd.DataFrame, backend: str, inputs: str | None = None, tokens: int = TOKENS) -> pd.DataFrame:
    """Lines of the backend at its default options, times on the CPU alone; at so many tokens, if `inputs` is given."""
    same = {"model": MODEL, "backend": backend, "options": ""} | ({"device": "cpu"} if "device" in table else {})
    same |= {"inputs": inputs, "tokens": tokens} if inputs else {}
    return table[(table[list(same)] == pd.Series(same)).all(axis=1)]


def _ratios(runs: pd.DataFrame, backend: str, inputs: str) -> Iterator[tuple]:
    where = f"{backend}, layers {inputs}: a block at {TOKENS:,} tokens, forward and backward"
    threads = ", ".join(f"{run['threads']:.0f} threads of {run['machine']}" for _, run in runs.iterrows())
    for side, limits, what in (("server", SERVER, "server product"), ("client", CLIENT, "client's encrypt + decrypt")):
        for plaintext in ("float32", "int8"):
            limit = limits[backend] if plaintext == "float32" else None
            values = runs[f"{side}_over_{plaintext}_median"].astype(float).dropna()
            target = "none" if limit is None else f"<= {limit:g}"
            yield f"{where}: {what} over plaintext {plaintext}", values, target, limit, False, runs["basis"], threads
    if backend == "packed":
        values = runs["glwe_server_time_over_this"].astype(float).dropna()
        text = f"{where}: server time of glwe per token over this, on the layers glwe was measured on"
        yield text, values, f">= {LESS_THAN_GLWE:,}", LESS_THAN_GLWE, True, runs["basis"], threads
