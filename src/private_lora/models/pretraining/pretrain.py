"""The `pretrain` command: a built-in model from scratch on a CPU, with its tokenizer, card and metrics."""

import copy
import json
import math
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from private_lora.core.errors import UserError
from private_lora.models.pretraining import corpus
from private_lora.models.pretraining.model_card import held_out_metrics, model_card, token_stream, windows

VOCABULARY = 2048
SPECIAL_TOKENS = ("<bos>", "<eos>", "<pad>")
TOKENIZER_CODE_SHARE = 4  # one source file in four teaches the tokenizer, so that English words get merges too


@dataclass(frozen=True)
class Preset:
    """Shape of a built-in model and how long it trains; a batch is batch_size windows of `window` tokens."""

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    steps: int
    learning_rate: float
    batch_size: int = 16
    window: int = 256
    warmup_steps: int = 100
    weight_decay: float = 0.1
    english_bytes: int = 5_000_000


PRESETS = {
    "mini-llama": Preset(192, 6, 6, 2, 512, steps=3000, learning_rate=3e-3),
    "nano": Preset(64, 2, 4, 2, 128, steps=2500, learning_rate=6e-3),
}


def add_arguments(parser):
    """The options of `python -m private_lora pretrain`, added to an argparse parser."""
    parser.add_argument("--out", type=Path, required=True, help="directory for model, tokenizer and model card")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="mini-llama")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps (default: the preset's)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all)")
    parser.add_argument("--save-every", type=int, default=500, help="steps between early saves of the weights")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model: faster, needs a C++ compiler")


def train_tokenizer(documents):
    """A byte-level BPE tokenizer of 2,048 tokens as a PreTrainedTokenizerFast.

    Digits never merge, and no special token is added to a text. Learned from every English and docstring
    document and a quarter of the sources.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    codes = [document.text for document in documents if document.kind == "code"][::TOKENIZER_CODE_SHARE]
    others = [document.text for document in documents if document.kind != "code"]
    tokenizer.train_from_iterator(codes + others, trainer)
    bos, eos, pad = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        clean_up_tokenization_spaces=False,
    )


def training_batches(stream, preset, steps, bos, rng):
    """`steps` shuffled batches, batch x (window + 1); every epoch cuts the stream at a new offset."""
    done = 0
    while True:
        rows = windows(stream, preset.window, bos, start=int(rng.integers(preset.window)))
        order = rng.permutation(len(rows))
        for first in range(0, len(rows) - preset.batch_size + 1, preset.batch_size):
            if done == steps:
                return
            yield torch.from_numpy(rows[order[first : first + preset.batch_size]])
            done += 1


def build_model(preset, tokenizer):
    """A freshly initialised float32 Llama of the preset's shape, with tied embeddings."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=preset.hidden_size,
        intermediate_size=preset.intermediate_size,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.key_value_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def next_token_loss(model, rows):
    """Mean negative log-likelihood in nats of every token after the first of each row."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def rate_factor(step, steps, warmup):
    """Linear warm-up, then a cosine from 1 down to 0.02."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def fit(model, stream, preset, steps, bos, seed, compiled=False, after_step=lambda step: None):
    """Mean loss of the last 50 steps; trains the model in place, AdamW under bfloat16 autocast."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": preset.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=preset.learning_rate, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, steps, preset.warmup_steps))
    network = torch.compile(model) if compiled else model
    losses = []
    batches = training_batches(stream, preset, steps, bos, np.random.default_rng(seed))
    for rows in (bar := tqdm(batches, total=steps, unit="step", mininterval=5)):
        loss = next_token_loss(network, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        after_step(len(losses))
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
    return float(np.mean(losses[-50:]))


def save(model, tokenizer, out):
    """Tokenizer, config and float16 safetensors into `out`; every file appears complete or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        # A copy of the whole model, not of its tensors, keeps the tied embedding one tensor in the file.
        copy.deepcopy(model).half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for path in Path(folder).iterdir():
            os.replace(path, out / path.name)


def run(args):
    """Trains a preset: weights, tokenizer, metrics.json and README.md are in args.out when it returns."""
    preset = PRESETS[args.preset]
    steps = args.steps or preset.steps
    disable_progress_bar()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    documents = corpus.load(preset.english_bytes, args.seed)
    if not corpus.byte_counts(documents["train"])["code"]:
        raise UserError("no standard library sources beside the running Python: install its .py files")
    tokenizer = train_tokenizer(documents["train"])
    stream = token_stream(documents["train"], tokenizer)
    model = build_model(preset, tokenizer)

    def save_early(step):
        if step % args.save_every == 0:
            save(model, tokenizer, args.out)

    start = time.monotonic()
    begin = tokenizer.bos_token_id
    train_loss = fit(model, stream, preset, steps, begin, args.seed, args.compile, save_early)
    train_time = time.monotonic() - start
    save(model, tokenizer, args.out)
    stored = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()
    metrics = {
        **describe(args, preset, steps, documents, stream),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "train_loss": train_loss,
        "train_time_s": train_time,
        "held_out": held_out_metrics(stored, tokenizer, documents["held_out"], stream),
    }
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (args.out / "README.md").write_text(model_card(metrics))


def describe(args, preset, steps, documents, stream):
    """What a run was asked to do and on what, as plain data: the part of the metrics that needs no training."""
    tokens = steps * preset.batch_size * preset.window
    command = f"python -m private_lora pretrain --preset {args.preset} --out {args.out}"
    return {
        "name": args.preset,
        "command": command + (" --compile" if args.compile else ""),
        "vocabulary": VOCABULARY,
        "preset": asdict(preset),
        "seed": args.seed,
        "steps": steps,
        "tokens": tokens,
        "epochs": tokens / len(stream),
        "train_tokens_in_corpus": len(stream),
        "threads": args.threads,
        "compiled": args.compile,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "train_bytes": corpus.byte_counts(documents["train"]),
        "held_out_bytes": corpus.byte_counts(documents["held_out"]),
        "corpus_sha256": corpus.digest(documents["train"]),
    }
