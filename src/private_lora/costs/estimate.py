"""What private fine-tuning would cost one user: parameters, traffic, time, memory, money, and whether it pays.

Seconds come from a calibration's rows through the cost model (`costs.model`, `costs.predict`), bytes from the plans, memory
from sizes. Everything is plain data, for a text or for JSON.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace

import pandas as pd

from private_lora.backends.packed.hints import MEMORY_SHARE
from private_lora.costs.arrangement import Arrangement
from private_lora.costs.inputs import Local, LocalWork, Scheme, Shapes, local_of, schemes_of
from private_lora.costs.memory import Sizes
from private_lora.costs.model import JOINT, SIZES, TIMES, predict
from private_lora.costs.plans import ModelPlan, PlannedProduct
from private_lora.costs.predict import step_work
from private_lora.costs.verdict import Way, verdict
from private_lora.models.local import LocalModel
from private_lora.models.shapes import architecture_of
from private_lora.specs.run import RunSpec

# Types of plain LoRA's products: which measured products they are, the fastest counts; bytes of a weight are in `costs.memory`.
PLAIN_TYPES = {
    "float32 (torch)": ("float32", ("plaintext_float32",)),
    "float32 (oneDNN)": ("float32", ("plaintext_float32_onednn",)),
    "bf16": ("bf16", ("plaintext_bf16",)),
    "int8": ("int8", ("plaintext_int8", "plaintext_int8_prepacked")),
    "4-bit": ("4-bit", ("plaintext_int4",)),
}
SAID_OF_LAYER = ("ring_size", "log2_q", "failure_log2", "matzov_bits_of_proof", "adps16_bits_of_proof")
SAID_OF_LAYER += ("chaloy21_quantum_bits_of_proof", "upload_bits_per_value", "download_bits_per_value")
# Of which local work is measured where a model's own block would take too long.
STAND_IN, LARGEST_LOCAL_BLOCK = "Llama-3.2-1B", 2**27


@dataclass(frozen=True)
class Asked:
    """What is to be estimated. network: name, bandwidth_bits_per_s, latency_s; prices: as in `costs.prices`."""

    run: RunSpec
    model: LocalModel
    how: Arrangement
    network: dict
    prices: dict
    machine_memory: float

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.run.batch_size * self.run.sequence_length


def local_model_name(model: LocalModel) -> str:
    """Of which model the client's own work is to be measured: its own, or one whose block is small enough."""
    return STAND_IN if model.architecture.block_weights > LARGEST_LOCAL_BLOCK else model.source


def estimate(asked: Asked, plans: dict[str, ModelPlan], rows: list[dict], local: dict) -> dict:
    """The estimate, as plain data. plans: by name of the backend. rows, local: of `bench.calibration`.

    local has besides `model`, of which it was measured, as `local_model_name` says.
    """
    frame = _frame(rows)
    machine, wide = frame["machine"].iloc[0], _wide_columns(frame)
    sizes = Sizes(
        asked.model.architecture,
        asked.tokens,
        asked.run.lora_rank,
        asked.run.recompute,
        local["activation_bytes"] * asked.tokens / local["tokens"] * _width_share(asked, local),
        local["library_bytes"],
    )
    own = _own_work(asked, local, machine)
    backends = [_of_backend(asked, name, plan, frame, wide, own, sizes) for name, plan in plans.items()]
    plain = _plain(asked, frame, wide, own, backends[0]["step_in_process"]["quantize_time_s"], sizes)
    for backend in backends:
        backend["verdict"] = verdict(_private_way(backend, asked), [_plain_way(line) for line in plain], asked.machine_memory)
    return {
        "model": asked.run.model,
        "machine": machine,
        "machine_memory_bytes": asked.machine_memory,
        "run": {k: getattr(asked.run, k) for k in ("batch_size", "sequence_length", "steps", "recompute", "lora_rank")},
        "tokens_per_step": asked.tokens,
        "bits": [asked.run.activation_bits, asked.run.weight_bits],
        "weights": asdict(_Weights.of(asked)),
        "network": asked.network,
        "prices": asked.prices,
        "workers": asked.how.workers,
        "shards": asked.how.shards,
        "rows_per_question": asked.how.rows_per_question,
        "backends": backends,
        "plain": plain,
        "local_work": {"seconds_per_step": own.own_s, "basis": own.basis, "formula": own.formula},
    }


@dataclass(frozen=True)
class _Weights:
    """Numbers of weights: of all, of the workers', of the client's, of the adapter."""

    all: int
    remote: int
    client: int
    adapter: int

    @classmethod
    def of(cls, asked: Asked) -> _Weights:
        a = asked.model.architecture
        return cls(a.weights, a.remote_weights, a.client_weights, a.adapter_weights(asked.run.lora_rank))


def _frame(rows: list[dict]) -> pd.DataFrame:
    """A calibration's rows as the cost model reads those of a block."""
    frame = pd.DataFrame(rows)
    numbers = ("tokens", "inputs", "outputs", "value", "activation_bits", "weight_bits")
    frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})
    return frame.assign(options=frame["variant"], backend_options=frame["options"])


def _wide_columns(frame: pd.DataFrame) -> dict[tuple[float, float], list[int]]:
    """Outputs of the layers for which a measured product of (inputs, outputs) stands."""
    found = frame[["inputs", "outputs", "note"]].drop_duplicates()
    of: dict = {}
    for inputs, outputs, note in found.itertuples(index=False):
        of.setdefault((inputs, outputs), []).append(int(note))
    return of


def _width_share(asked: Asked, local: dict) -> float:
    """Activations of a block over those of the block that was measured: in proportion to the widths of its layers."""
    if local["model"] == asked.model.source:
        return 1.0
    own, other = (sum(k + d for k, d in a.layers.values()) for a in (asked.model.architecture, architecture_of(local["model"])))
    return own / other


def _own_work(asked: Asked, local: dict, machine: str) -> Local:
    """The client's own work without quantization, at the tokens of a step."""
    bits = str(asked.run.activation_bits)
    setting = local["model"], machine, local["tokens"], JOINT, float(asked.run.recompute), asked.run.lora_rank, bits
    work = LocalWork(*setting, local["base_s"], local["block_s"], 0.0, 0.0)
    architecture = replace(asked.model.architecture, name=asked.model.source)
    return local_of([work], architecture, machine, asked.tokens, JOINT)


def _of_backend(asked: Asked, name: str, plan: ModelPlan, frame: pd.DataFrame, wide: dict, own: Local, sizes: Sizes) -> dict:
    """All that is said of one backend but the verdict."""
    architecture, tokens = asked.model.architecture, asked.tokens
    (scheme,) = schemes_of(frame, [name])
    table, said = _real_shapes(scheme.table, wide, tokens)
    table = table.assign(**dict(zip(SIZES, _mean_bytes(plan, table), strict=True)))
    frame = frame[frame["backend"] == name]
    quantize, hint_s = _quantize_seconds(plan, frame, wide, tokens), _hint_seconds(plan, frame, wide)
    local = replace(own, quantize_s=quantize)
    work, columns = step_work(architecture, scheme, Shapes(table, said), tokens, JOINT, local)
    up, down = (sum(p.times * p.message_bytes[way] for p in plan.products) for way in (0, 1))
    work = work.with_bytes(up, down)
    hint_bytes, steps = sum(p.held * p.hint_bytes for p in plan.products), asked.run.steps
    step = predict(work, asked.network, asked.how, asked.prices)
    return {
        "backend": name,
        "parameters": _parameters(plan),
        "planned_from": plan.say(),
        "bytes_basis": "exact" if plan.is_exact and not plan.drawn_columns else "extrapolated",
        "hint_bytes": hint_bytes,
        "hint_time_s": hint_s,
        "step": step,
        "step_in_process": predict(work, None, None, asked.prices),
        "total_time_s": steps * step["step_time_s"] + hint_s,
        "total_bytes": steps * (step["upload_bytes"] + step["download_bytes"]),
        "total_money": steps * step["money_per_step"] + hint_s / 3600 * asked.prices["client_per_hour"],
        "round_trips_per_step": step["round_trips"],
        "client_memory_bytes": (in_memory := sizes.client(plan.products, hint_bytes)),
        "client_memory_hints_on_disk_bytes": sizes.client(plan.products, 0),
        "hints_on_disk": max(in_memory, hint_bytes / MEMORY_SHARE) > asked.machine_memory,
        "worker_memory_bytes": sizes.worker(plan.products, asked.how.shards),
        "memory_in_process_bytes": in_memory + sizes.worker(plan.products, 1) - sizes.libraries,
        "basis": "extrapolated" if columns["formula"] else "measured parts",
        "formula": columns["formula"],
    }


def _real_shapes(table: pd.DataFrame, wide: dict, tokens: int) -> tuple[pd.DataFrame, str]:
    """Times of the layers' own shapes at the wanted tokens, and what was done to the measured ones.

    Server and decryption in proportion to the columns; encryption sees the inputs alone.
    """
    lines, sliced, measured = [], False, table["tokens"].iloc[0]
    for line in table.to_dict("records"):
        for outputs in wide[line["inputs"], line["outputs"]]:
            share, more = outputs / line["outputs"], tokens / line["tokens"]
            sliced |= share != 1
            factors = {"encrypt_time_s": more, "matmul_time_s": more * share, "decrypt_time_s": more * share}
            lines.append(line | {name: line[name] * factors[name] for name in TIMES} | {"outputs": outputs, "tokens": tokens})
    said = ["server and decryption x columns of a layer over those measured"] if sliced else []
    said += [f"products x {tokens / measured:.4g} (tokens)"] if tokens != measured else []
    return pd.DataFrame(lines), "; ".join(said)


def _mean_bytes(plan: ModelPlan, table: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Bytes up and down of each shape, the mean over its products."""
    found = []
    for way in (0, 1):
        sums: Counter = Counter()
        asked: Counter = Counter()
        for p in plan.products:
            sums[p.shape] += p.held * p.message_bytes[way]
            asked[p.shape] += p.held
        found.append([sums[shape] / asked[shape] for shape in zip(table["inputs"], table["outputs"], strict=True)])
    return found[0], found[1]


def _quantize_seconds(plan: ModelPlan, frame: pd.DataFrame, wide: dict, tokens: int) -> float:
    """Of a step: what every product's rows take, in proportion to inputs and outputs."""
    seconds = {}
    for (inputs, outputs, measured), rows in _measured(frame, "client_quantize_time_s", "inputs", "outputs", "tokens"):
        for real in wide[inputs, outputs]:
            seconds[inputs, real] = rows.median() * (inputs + real) / (inputs + outputs) * tokens / measured
    return sum(p.times * seconds[p.shape] for p in plan.products)


def _hint_seconds(plan: ModelPlan, frame: pd.DataFrame, wide: dict) -> float:
    """Of all hints, once: a mask that is as large for any number of columns, and a product in proportion to them."""
    masks = {shape: rows.median() for shape, rows in _measured(frame, "hint_mask_time_s", "inputs", "outputs")}
    seconds = {}
    for (inputs, outputs), rows in _measured(frame, "hint_time_s", "inputs", "outputs"):
        mask = masks[inputs, outputs]
        for real in wide[inputs, outputs]:
            seconds[inputs, real] = mask + (rows.median() - mask) * real / outputs
    return sum(p.held * seconds[p.shape] for p in plan.products)


def _measured(frame: pd.DataFrame, metric: str, *by: str):
    """Values of a metric, by columns."""
    return frame[frame["metric"] == metric].groupby(list(by))["value"]


def _parameters(plan: ModelPlan) -> list[dict]:
    """By layer and direction: what the scheme says of itself, smallest and largest over the blocks."""
    found: dict[tuple[str, str], list[PlannedProduct]] = {}
    for product in plan.products:
        found.setdefault((product.layer, product.phase), []).append(product)
    return [
        {"layer": layer, "phase": phase, "inputs": of[0].shape[0], "outputs": of[0].shape[1]}
        | {name: _range([p.plan.parameters.get(name) for p in of]) for name in SAID_OF_LAYER}
        for (layer, phase), of in found.items()
    ]


def _range(values: list) -> list | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None


def _plain(asked: Asked, frame: pd.DataFrame, wide: dict, own: Local, quantize_s: float, sizes: Sizes) -> list[dict]:
    """Plain LoRA on this machine, by type of its products."""
    lines = []
    for label, (kind, names) in PLAIN_TYPES.items():
        works = [_plain_work(asked, scheme, wide, own) for scheme in schemes_of(frame, list(names))]
        work, name = min(works, key=lambda pair: pair[0].total("matmul_s"))
        work = replace(work, quantize_s=quantize_s if kind == "int8" else 0.0)
        step = predict(work, None, None, asked.prices)
        memory = sizes.plain(kind)
        lines.append(
            {
                "type": label,
                "product": name,
                "step_time_s": step["step_time_s"],
                "total_time_s": asked.run.steps * step["step_time_s"],
                "memory_bytes": memory,
                "fits": memory <= asked.machine_memory,
                "total_money": asked.run.steps * step["money_per_step"],
            }
        )
    return lines


def _plain_work(asked: Asked, scheme: Scheme, wide: dict, own: Local):
    table, said = _real_shapes(scheme.table, wide, asked.tokens)
    work, _ = step_work(asked.model.architecture, scheme, Shapes(table, said), asked.tokens, JOINT, own)
    return work, scheme.backend


def _private_way(backend: dict, asked: Asked) -> Way:
    """Hints lie on disk where memory does not take them."""
    memory = backend["client_memory_hints_on_disk_bytes" if backend["hints_on_disk"] else "client_memory_bytes"]
    fits = memory <= asked.machine_memory
    return Way(backend["backend"], backend["total_time_s"], memory, fits, backend["total_money"])


def _plain_way(line: dict) -> Way:
    return Way(line["type"], line["total_time_s"], line["memory_bytes"], line["fits"], line["total_money"])
