"""The card of a built-in model: how it was made, and held-out bits per byte beside two yardsticks."""

import lzma
import math

import numpy as np
import torch

from private_lora.models.pretraining import corpus


def token_stream(documents, tokenizer):
    """All documents as one int64 array of token ids, each closed by the end token."""
    texts = [document.text for document in documents]
    encoded = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    end = np.array([tokenizer.eos_token_id])
    return np.concatenate([part for item in encoded for part in (np.array(item.ids, dtype=np.int64), end)])


def windows(stream, length, bos, start=0):
    """The stream cut into rows of `length` tokens, the beginning token in front: N x (length + 1)."""
    count = (len(stream) - start) // length
    rows = stream[start : start + count * length].reshape(count, length)
    return np.concatenate([np.full((count, 1), bos, dtype=np.int64), rows], axis=1)


@torch.no_grad()
def model_bits(model, stream, bos, window=256, batch_size=16):
    """Bits the model needs for the whole stream, in float32, each window of 256 tokens starting cold."""
    full = windows(stream, window, bos)
    rest = stream[len(full) * window :]
    batches = [torch.from_numpy(full[i : i + batch_size]) for i in range(0, len(full), batch_size)]
    if len(rest):
        batches.append(torch.from_numpy(np.concatenate([[bos], rest])[None]))
    nats = 0.0
    for rows in batches:
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        nats += torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
    return nats / math.log(2)


def unigram_bits(stream, train_stream, vocabulary):
    """Bits a token unigram model needs for the stream: training frequencies, one added to every count."""
    counts = np.bincount(train_stream, minlength=vocabulary) + 1
    return float(-np.log2(counts / counts.sum())[stream].sum())


def xz_bits(text):
    """Bits of the text compressed by `xz -9` (Python's lzma, preset 9), nothing seen before."""
    return 8 * len(lzma.compress(text.encode(), preset=9))


def held_out_metrics(model, tokenizer, held_out, train_stream):
    """Bits per byte on the held-out documents by kind and for code and English together."""
    groups = {kind: [document for document in held_out if document.kind == kind] for kind in corpus.KINDS}
    groups["code and english"] = groups["code"] + groups["english"]
    table = {}
    for name, documents in groups.items():
        text = "".join(document.text for document in documents)
        stream, size = token_stream(documents, tokenizer), len(text.encode())
        table[name] = {
            "bytes": size,
            "tokens": len(stream),
            "model": model_bits(model, stream, tokenizer.bos_token_id) / size,
            "unigram": unigram_bits(stream, train_stream, len(tokenizer)) / size,
            "xz": xz_bits(text) / size,
        }
    return table


def model_card(metrics):
    """The README.md text of a model directory, every number from the metrics."""
    rows = "\n".join(
        f"| {name} | {row['bytes']:,} | {row['model']:.3f} | {row['unigram']:.3f} | {row['xz']:.3f} |"
        for name, row in metrics["held_out"].items()
    )
    data, preset = metrics["train_bytes"], metrics["preset"]
    return f"""# {metrics["name"]}

A small Llama (grouped-query attention, SwiGLU, RoPE, tied embedding) of {metrics["parameters"]:,} weights,
trained from scratch by `{metrics["command"]}`.
It is a base model for studying fine-tuning under encryption on machines without a model hub. It is not useful
for anything else, and it knows no arithmetic. This card and `metrics.json` are written by that command.

| | |
|---|---|
| shape | hidden {preset["hidden_size"]}, {preset["layers"]} layers, {preset["heads"]} heads, \
{preset["key_value_heads"]} key-value heads, intermediate {preset["intermediate_size"]}, \
{metrics["vocabulary"]} tokens |
| tokenizer | byte-level BPE, digits split; `<bos>` stood in front of every training window |
| training data | standard library of Python {metrics["python"]}: {data["code"]:,} bytes of source and \
{data["docstring"]:,} bytes of its docstrings again as prose; {data["english"]:,} bytes of generated English |
| left out of the sources | installed packages, test suites, character tables, files above \
{corpus.MAX_SOURCE_BYTES:,} bytes |
| corpus SHA-256 (train) | `{metrics["corpus_sha256"]}` |
| training | {metrics["steps"]:,} steps of {preset["batch_size"]} x {preset["window"]} tokens = \
{metrics["tokens"]:,} tokens ({metrics["epochs"]:.2f} epochs), AdamW, peak learning rate \
{preset["learning_rate"]}, cosine, bfloat16 autocast, seed {metrics["seed"]} |
| time | {metrics["train_time_s"]:.0f} s wall-clock with {metrics["threads"]} CPU threads |
| last training loss | {metrics["train_loss"]:.3f} nats per token |
| stored as | float16 safetensors |

## Held-out bits per byte

| held-out text | bytes | model | token unigram | xz -9 |
|---|---|---|---|---|
{rows}

The held-out documents are {corpus.HELD_OUT_PERCENT} % of the names by hash; a docstring stays on its
file's side.
The model starts each window of {preset["window"]} tokens cold, and `xz -9` (Python's lzma, preset 9) starts
cold too, but then adapts to the whole text in one piece, which the model does not. The unigram model gives
every token of this tokenizer its frequency in the training data.

Held-out English comes from the same grammar as the training English, so its figure says how well the grammar
is known, not English. The generated English has no worked arithmetic and no problems with answers.
Another Python version gives another corpus, and other weights.
"""
