"""The questions of the report, in its order: which answers, figures and tables stand under each, and what a reader must know.

A figure or table that a study does not publish is left out; one that is named nowhere here stands in the last section.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from private_lora.publish.report import answers_cost as cost
from private_lora.publish.report import answers_encryption as encryption
from private_lora.publish.report import answers_failed as failing
from private_lora.publish.report import answers_learning as learning
from private_lora.publish.report import answers_overflow as overflowing
from private_lora.publish.report import answers_published as paper
from private_lora.publish.report import answers_time as time
from private_lora.publish.report.answer import Answer
from private_lora.publish.report.lines import Tables


@dataclass(frozen=True)
class Part:
    """One answer of a question. title: empty where the question itself says it. notes: paragraphs behind the figures."""

    key: str
    title: str
    answer: Callable[[Tables], Answer | None]
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question, as its heading, and the parts of its answer."""

    key: str
    heading: str
    parts: tuple[Part, ...]


# Parts whose answer may stand at the top: the first that has one.
OPENING = ("learned", "converges", "exact", "step")

_SMALL_MODELS = (
    "`mini-llama`, `mini-llama-outlier` and `nano` were trained for this project, so that a study runs on any machine. Their "
    "absolute losses say nothing about large models. Small models lack the extreme activations that make static and per-tensor "
    "quantization fail in large ones; SmolLM2 has them, and `mini-llama-outlier` has them planted without a change of the "
    "function that it computes.",
    "Padding is left out of losses here; in the published values it was counted.",
)
_INFLATED = (
    "Why: labels of questions and padding are masked, so many rows of a gradient are exactly zero. A dynamic quantizer divides "
    "each row by its range. For a row without a range the reference implementation takes the scale 1. An encrypted product is "
    "noisy, and decryption multiplies the noise by that scale: far above the real gradients of the batch. The forward loss "
    "barely moves, and AdamW, which normalises the size of its updates, hides the damage for a while. Here a zero row has the "
    "scale zero and stays zero (*constant rows: exact*).",
    "The real run is a step on one short line of code: few labelled tokens give large gradients, so the same noise stands out "
    "less.",
)
_SMALL_LAYERS = (
    "Below 512 inputs or outputs Concrete ML's trainer does not use GLWE but compiles circuits, which quantize statically. A "
    "circuit is compiled for the sums seen in calibration, and a larger one wraps around without an error; *wrong outputs* "
    "counts them.",
)

QUESTIONS = (
    Question("converge", "Does it converge?", (
        Part("converges", "", learning.converges, ("loss_curves",), ("final_loss",), _SMALL_MODELS),
    )),
    Question("bits", "At how many bits?", (
        Part("bits", "", learning.bits, ("final_loss_vs_bits",), ("final_loss",)),
    )),
    Question("encryption", "What does encryption change?", (
        Part("exact", "The exact scheme", encryption.exact, ("packed_loss",), ("packed_training",)),
        Part(
            "published_scheme", "The paper's scheme", encryption.published_scheme, ("encrypted_minus_clear",),
            ("encrypted_vs_clear", "encryption_counters"), _SMALL_LAYERS,
        ),
        Part(
            "inflation", "Why published gradients are inflated", encryption.inflation,
            ("gradient_inflation", "inflation_prediction", "inflation_by_optimizer"),
            ("gradient_inflation", "inflation_prediction"), _INFLATED,
        ),
        Part(
            "overflow", "Where its sums overflow", overflowing.overflow, ("overflow",), ("overflow", "overflow_layers"),
        ),
    )),
    Question("worker", "What does the worker see?", (
        Part("security", "", encryption.security, (), ("security",)),
        Part("seen", "What an attack reads back", encryption.seen, ("worker_view",), ("worker_view",)),
    )),
    Question("learn", "Does a real model learn?", (
        Part("learned", "", learning.learned, ("knowledge",), ("knowledge", "answers")),
        Part("forgot", "What it forgot", learning.forgot, (), ("knowledge",)),
    )),
    Question("cost", "What does it cost, in time, bytes, money?", (
        Part("step", "A whole step", time.step, ("equal_batch",), ("full_step",)),
        Part("operations", "Where the time of a step goes", time.operations, ("full_step_operations",), ("full_step",)),
        Part("products", "The products alone", time.products, ("block_latency",), ("block_latency", "block_utilisation")),
        Part("gpu", "On a GPU", time.gpu, (), ("block_utilisation",)),
        Part("layer", "One layer", time.layer, ("layer_latency",), ("layer",)),
        Part("whole_runs", "Whole runs", time.whole_runs, ("time_by_operation",), ("encryption_counters",)),
        Part("traffic", "Bytes", cost.traffic, ("bytes_per_token",), ("block_bytes", "full_step")),
        Part("links", "Slow links, predicted", cost.links, ("step_time_by_bandwidth", "step_latency"), ("step_cost",)),
        Part("workers", "Through workers", cost.workers, ("loopback_step",), ("loopback",)),
        Part("outsourcing", "Alone or outsourced", cost.outsourcing, (), ("alone_or_outsourced",)),
        Part("generated", "Generating a text", cost.generated, (), ("generation",)),
        Part("memory", "Memory", cost.memory, (), ("client_memory", "client_economics")),
        Part("money", "Money, predicted", cost.money, (), ("step_cost",)),
        Part("predictions", "How far predictions are off", cost.predictions, (), ("full_step", "estimate_errors")),
    )),
    Question("paper", "Against the paper?", (
        Part("published", "", paper.published, (), ("published_comparison", "literature")),
    )),
    Question("failed", "What failed?", (
        Part("failed", "", failing.failed, (), ("claims", "runs")),
    )),
)  # fmt: skip
