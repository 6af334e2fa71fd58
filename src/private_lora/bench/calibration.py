"""A few seconds of measuring before a run: products of a model's real shapes, and the client's own work on a block.

Outputs of a product do not depend on each other, so of a wide layer a part of the columns is multiplied; the rows say how many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from private_lora.backends import load
from private_lora.backends.contract import Offline
from private_lora.bench.plaintext import FourBitProduct, PlaintextProduct
from private_lora.core.memory import give_back_memory, resident_memory_bytes
from private_lora.crypto.kernels import KERNELS, PrepackedProduct, is_exact
from private_lora.crypto.pads import SLOTS
from private_lora.data.encoding import Batches
from private_lora.data.sources.random_tokens import random_tokens
from private_lora.models.shapes import Architecture
from private_lora.models.stream import random_frame
from private_lora.results.provenance import machine
from private_lora.results.recorder import Recorder
from private_lora.specs.run import RunSpec
from private_lora.split.linear import split_model
from private_lora.split.quantizers import dequantize_product, quantize_activations
from private_lora.split.recompute import recompute_activations
from private_lora.split.session import Session
from private_lora.split.stopwatch import Stopwatch, timed_product
from private_lora.split.weights import product_weight
from private_lora.training.adapter import add_adapter
from private_lora.training.evaluation import to_tensors
from private_lora.training.head import MOST_AT_ONCE, ChunkedLoss
from private_lora.training.loop import train_step
from private_lora.training.preparation import Run, make_optimizer, quantization_of

# Multiplications of one pass over the sliced shapes, of one step of a block: half a second each of float32 on two cores.
PRODUCT_BUDGET, STEP_BUDGET = 3e10, 7e10
MOST_TOKENS, FEWEST_COLUMNS = 2048, 128
# A product is repeated, after a first that is not counted, until it took so long.
LONG_ENOUGH_S, FEWEST_REPEATS, MOST_REPEATS = 0.3, 2, 9
MANY_STEPS, FEW_STEPS = 6, 3  # of small blocks, of large ones
HEAD_ROWS = 256
DRAWN_ROWS, HEAD_STD = 4096, 0.02  # of a head's random weights, which are repeated
FEW, MANY = 1, 4  # blocks
SMALL_BLOCK = 2**23  # weights of a block of which MANY are run as well as FEW, so that what is paid once stands apart
FEW_TOKENS = 256  # a vocabulary that costs nothing
FEW_ROWS, FEW_COLUMNS = 8, 16
PLAINTEXT = ("plaintext_float32", "plaintext_float32_onednn", "plaintext_bf16", "plaintext_int8")
FOUR_BIT, PREPACKED = "plaintext_int4", "plaintext_int8_prepacked"


def calibrate_products(run: RunSpec, plans: dict, options: dict) -> list[dict]:
    """Rows of the products of a model's shapes: for each backend its stages, and for each plaintext type its product.

    plans: backend name -> plans of its products, one for each shape (inputs, outputs). options: of each backend. Rows have as
    `outputs` the columns that were multiplied, and in `note` those of the layer.
    """
    shapes = {(plan.inputs, plan.outputs) for of_backend in plans.values() for plan in of_backend}
    tokens = min(run.batch_size * run.sequence_length, MOST_TOKENS)
    columns = _columns_of(shapes, tokens)
    recorder = Recorder({"run_id": run.run_id, "stage": "estimate", "machine": machine(), "device": "cpu", "tokens": tokens})
    generator = np.random.Generator(np.random.PCG64(run.seed))
    for name, of_backend in plans.items():
        _warm_up(run, load(name, **options[name]), of_backend[0], generator)
    for k, d in sorted(shapes):
        width = columns[k, d]
        x, weight = (generator.standard_normal(shape, dtype=np.float32) for shape in ((tokens, k), (k, width)))
        of = {"inputs": k, "outputs": width, "note": str(d), "phase": "forward"}
        for name, of_backend in plans.items():
            plan = next(plan for plan in of_backend if (plan.inputs, plan.outputs) == (k, d))
            _record_encrypted(recorder, run, load(name, **options[name]), replace(plan, outputs=width), x, weight, of)
        _record_plaintext(recorder, x, weight, of)
        give_back_memory()
    return recorder.rows


def _warm_up(run: RunSpec, backend, plan, generator) -> None:
    """A product that nobody records: it loads the kernels, and finds the fastest."""
    shapes = (FEW_ROWS, plan.inputs), (plan.inputs, FEW_COLUMNS)
    x, weight = (generator.standard_normal(shape, dtype=np.float32) for shape in shapes)
    _record_encrypted(Recorder({}), run, backend, replace(plan, outputs=FEW_COLUMNS), x, weight, {})


def _columns_of(shapes: Iterable[tuple[int, int]], tokens: int) -> dict[tuple[int, int], int]:
    """How many columns of each shape are multiplied: all, or the share of them that the budget allows."""
    share = min(1.0, PRODUCT_BUDGET / (tokens * sum(k * d for k, d in shapes)))
    return {(k, d): min(d, max(FEWEST_COLUMNS, round(share * d))) for k, d in shapes}


def _record_encrypted(recorder: Recorder, run: RunSpec, backend, plan, x, weight, of: dict) -> None:
    """Quantization, encryption, product, decryption, and the hint, of one product by one backend."""
    q = quantization_of(run)
    integers = product_weight(weight, "calibration", q)
    watch = Stopwatch()
    client = backend.client(plan).prepare(integers.values)
    hint_s = backend.metrics(client.keys).get("hint_time_s", (watch.lap(), "s"))[0]
    server = backend.server(plan, integers.values)
    columns = of | {"backend": backend.name, "activation_bits": q.activation_bits, "weight_bits": q.weight_bits}
    recorder.add("hint_time_s", hint_s, "s", **columns)
    recorder.add("hint_mask_time_s", min(hint_s, _mask_seconds(backend, plan, integers.values)), "s", **columns)
    # Whole pads, so that nothing of what the first product pays for is left to those that are timed.
    first = quantize_activations(np.resize(x, (-(-len(x) // SLOTS) * SLOTS, x.shape[1])), *_quantization(q))
    dequantize_product(timed_product(client, server, first.values).y, first, integers.terms)
    client.offline = Offline()
    for repeat in _repeats():
        watch = Stopwatch()
        rows = quantize_activations(x, *_quantization(q))
        quantize_s = watch.lap()
        product = timed_product(client, server, rows.values)
        watch.lap()  # it is timed by itself
        dequantize_product(product.y, rows, integers.terms)
        quantize_s += watch.lap()
        for metric, (value, unit) in (product.metrics | {"client_quantize_time_s": (quantize_s, "s")}).items():
            recorder.add(metric, value, unit, repeat=repeat, **columns)


def _mask_seconds(backend, plan, weight: np.ndarray) -> float:
    """Seconds of a hint of few columns: nearly all of it is the mask, which is as large for one column as for all."""
    watch = Stopwatch()
    client = backend.client(replace(plan, outputs=FEW_COLUMNS)).prepare(np.ascontiguousarray(weight[:, :FEW_COLUMNS]))
    return backend.metrics(client.keys).get("hint_time_s", (watch.lap(), "s"))[0]


def _repeats() -> Iterator[int]:
    """0, 1, 2, ... until what is done with them took long enough for a median."""
    start = time.perf_counter()
    for repeat in range(MOST_REPEATS):
        yield repeat
        if repeat + 1 >= FEWEST_REPEATS and time.perf_counter() - start > LONG_ENOUGH_S:
            return


def _quantization(q) -> tuple:
    return q.activation_bits, q.activation_quantizer, q.constant_rows


def _record_plaintext(recorder: Recorder, x, weight, of: dict) -> None:
    """The same product in the clear, in each type."""
    integers = [np.clip(np.rint(32 * values), -127, 127).astype(np.int8) for values in (x, weight)]
    products: dict[str, Callable] = {name: PlaintextProduct(name, *integers, "cpu") for name in PLAINTEXT}
    products[FOUR_BIT] = FourBitProduct(x, weight)
    if is_exact(PrepackedProduct):
        products[PREPACKED] = _prepacked(*integers)
    for name, product in products.items():
        product()
        for repeat in _repeats():
            times, _ = product()
            recorder.add("matmul_time_s", times["matmul_time_s"][0], "s", repeat=repeat, backend=name, **of)


def _prepacked(x: np.ndarray, weight: np.ndarray) -> Callable[[], tuple[dict, None]]:
    """The int8 product by oneDNN on a weight that it packed once, which uses AMX where there is."""
    product, rows = KERNELS["prepacked"](weight), torch.from_numpy(x[None])

    def call():
        watch = Stopwatch()
        product(rows)
        return {"matmul_time_s": (watch.lap(), "s")}, None

    return call


def calibrate_local(source: str, architecture: Architecture, run: RunSpec) -> dict:
    """The client's own work: seconds of a step by number of blocks, of the head, and bytes that a block keeps for backward.

    source: as of `models.stream.open_weights`. architecture: of the same model. Keys: tokens, base_s, block_s,
    activation_bytes (of a block that recomputes nothing), library_bytes (of this process before).
    """
    libraries = resident_memory_bytes()
    sequences = max(1, min(run.batch_size, int(STEP_BUDGET / (2 * architecture.block_weights * run.sequence_length))))
    tokens, own_head = sequences * run.sequence_length, run.batch_size * run.sequence_length * architecture.vocabulary
    whole_head = own_head <= MOST_AT_ONCE  # then the loss is taken at once, and is part of the steps below
    vocabulary = architecture.vocabulary if whole_head else FEW_TOKENS
    steps = MANY_STEPS if architecture.block_weights <= SMALL_BLOCK else FEW_STEPS
    spec = run.model_copy(update={"batch_size": sequences, "steps": steps, "backend": "float", "warmup_steps": 0})
    runs = {blocks: _Part(source, spec, blocks, vocabulary) for blocks in _numbers_of_blocks(architecture)}
    few, many = runs[FEW], runs[max(runs)]
    more = max(runs) - FEW
    block_s = max(many.own_s - few.own_s, 0.0) / more if more else few.own_s
    head_s = 0.0 if whole_head else _head_seconds(architecture) * tokens
    give_back_memory()
    return {
        "tokens": tokens,
        "base_s": few.own_s - block_s + head_s,
        "block_s": block_s,
        "activation_bytes": (many.kept_bytes - few.kept_bytes) / more if more else few.kept_bytes,
        "library_bytes": libraries,
    }


def _numbers_of_blocks(architecture: Architecture) -> tuple[int, ...]:
    """FEW, and MANY where they are small: the difference is that of blocks, the rest is paid once."""
    small = architecture.block_weights <= SMALL_BLOCK and architecture.blocks >= MANY
    return (FEW, MANY) if small else (FEW,)


class _Part:
    """The first blocks of a model. own_s: seconds of a step but for its products. kept_bytes: by a forward pass until backward,
    where nothing is recomputed.
    """

    def __init__(self, source: str, spec: RunSpec, blocks: int, vocabulary: int):
        run = _small_run(source, spec, blocks, vocabulary)
        self.kept_bytes = _kept_bytes(run)
        if spec.recompute:
            recompute_activations(run.model, run.session)
        # The least: what disturbs a step makes it longer, and a few blocks stand for many.
        self.own_s = min(_own_seconds(run) for _ in range(spec.steps))


def _own_seconds(run: Run) -> float:
    before, products = run.seconds, _product_seconds(run.session)
    train_step(run)
    return run.seconds - before - (_product_seconds(run.session) - products)


def _product_seconds(session: Session) -> float:
    timings = session.timings
    return timings.encrypt_s + timings.matmul_s + timings.decrypt_s


def _small_run(source: str, spec: RunSpec, blocks: int, vocabulary: int) -> Run:
    """A run of a model's first blocks with random weights and a small vocabulary, whose products are float32."""
    frame = random_frame(source, spec.seed, blocks, vocabulary)
    model = add_adapter(frame.model, spec)
    library = "onednn" if torch.backends.mkldnn.is_available() else "torch"
    session = Session(load("float", library=library), quantization_of(spec))
    split_model(model, session, spec.share_inputs, frame.weight)
    optimizer, scheduler = make_optimizer(model, spec)
    rows = random_tokens(vocabulary, spec.batch_size * spec.steps, spec.sequence_length, spec.seed)
    batches = Batches(rows, spec.batch_size, spec.seed)
    model.train()
    return Run(spec, model, None, optimizer, scheduler, batches, [], {}, Recorder({}), None, session, {}, blocks)


def _kept_bytes(run: Run) -> int:
    """Bytes of the distinct tensors, parameters aside, that a forward pass keeps for backward."""
    found: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in run.model.parameters()}

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        loss = run.model(**to_tensors(run.batch(0))).loss  # alive until all are counted: memory of the dead is used again
    assert loss.requires_grad
    return sum(found.values())


def _head_seconds(architecture: Architecture) -> float:
    """Of one row through the head and its loss, forward and backward, at the model's own vocabulary."""
    # As small as a model's: of large logits, most probabilities would be denormal, which processors multiply many times slower.
    weight = HEAD_STD * torch.randn(min(architecture.vocabulary, DRAWN_ROWS), architecture.hidden)
    weight = weight.repeat(-(-architecture.vocabulary // len(weight)), 1)[: architecture.vocabulary]
    hidden = torch.randn(HEAD_ROWS, architecture.hidden, requires_grad=True)
    labels = torch.randint(architecture.vocabulary, (HEAD_ROWS,))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        ChunkedLoss.apply(hidden, weight, labels).backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds) / HEAD_ROWS
