"""What the cost model is made of, read from the rows: measured products by shape, and the client's own work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from private_lora.costs.fits import features, fit
from private_lora.costs.model import APART, JOINT, SIZES, TIMES, Product
from private_lora.models.shapes import Architecture, architecture_of
from private_lora.results.labels import bits_label, ids_of
from private_lora.results.runs import OK, run_metrics, series_of
from private_lora.specs.backends import BACKENDS
from private_lora.specs.grouping import shares_an_input
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS

PLAIN = "plaintext_float32"
# Its cost is a sum over rows, so that one row times the tokens is what many rows cost.
PER_ROW = ("glwe",)
SCHEME = ["backend", "options", "device", "machine", "bits"]
FEWEST_SHAPES = 4  # as many as the fit has coefficients
STAGES = ("client_quantize_time_s", *TIMES)
RUN_METRICS = (
    *STAGES,
    *SIZES,
    "train_time_s",
    "blocks",
    "model_blocks",
    "step_tokens",
    "share_inputs",
    "recompute",
    "lora_rank",
    "remote_matmuls",
    "encrypted_matmuls",
    "peak_memory_bytes",
    "hint_bytes",
    "hint_time_s",
    "offline_time_s",
    "security_bits",
)
RUN_COLUMNS = ["run_id", "model", "label", "backend", "variant", "options", "device", "machine", "bits", "seed", "status"]
RUN_COLUMNS += ["basis", "inputs", "steps", "losses", "step_times", "warm_step_time_s", *RUN_METRICS]
# The first step touches memory for the first time: it stands apart where at least so many others follow.
FEWEST_WARM_STEPS = 2


def full_size_runs(convergence: pd.DataFrame) -> pd.DataFrame:
    """One line per run of the stage full_size and machine: setting, losses and seconds by step, and what it counted once."""
    return runs_of(convergence[convergence["stage"] == "full_size"])


def runs_of(rows: pd.DataFrame, metrics: tuple[str, ...] = ()) -> pd.DataFrame:
    """One line per run and machine, as `full_size_runs`, with more `metrics` of what it counted once."""
    lines = [_run(group, metrics) for _, group in rows.groupby(["run_id", "machine"], sort=False)]
    return pd.DataFrame(lines, columns=[*RUN_COLUMNS, *metrics])


def _run(rows: pd.DataFrame, metrics: tuple[str, ...]) -> dict:
    first = rows.iloc[0]
    line = {name: first[name] for name in RUN_COLUMNS[:10] if name in first}
    line |= {"label": first["model"], "model": first["model"].removesuffix(" (random weights)")}
    line |= {"bits": bits_label(first["activation_bits"], first["weight_bits"]), "basis": first["basis"]}
    line |= {"status": OK if (rows["status"] == OK).all() else "failed"}
    line |= run_metrics(rows, (*RUN_METRICS, *metrics))
    losses, times = series_of(rows, "train", "loss"), series_of(rows, "train", "step_time_s")
    line |= {"steps": len(times), "losses": tuple(losses), "step_times": tuple(times), "warm_step_time_s": warm_median(times)}
    return line | {"inputs": JOINT if line["share_inputs"] == 1 else APART}


def warm(times) -> list[float]:
    """A run's step times (s) but for the first, where enough others are left."""
    times = list(times)
    return times[1:] if len(times) > FEWEST_WARM_STEPS else times


def warm_median(times) -> float:
    """Median of `warm`; NaN without any."""
    kept = warm(times)
    return float(np.median(kept)) if kept else np.nan


@dataclass(frozen=True)
class LocalWork:
    """Seconds that a client's own part of a step takes: base + blocks x block, without and with only the quantization."""

    model: str
    machine: str
    tokens: float
    inputs: str
    recompute: float
    lora_rank: float
    bits: str
    base_s: float
    block_s: float
    base_quantize_s: float
    block_quantize_s: float
    run_ids: str = ""


def local_works(runs: pd.DataFrame) -> list[LocalWork]:
    """The local work of each model, machine and setting of which `integer` ran with two numbers of blocks below the whole."""
    runs = runs[(runs["backend"] == "integer") & (runs["status"] == OK) & (runs["blocks"] < runs["model_blocks"])]
    remote = runs[list(STAGES)].astype(float).sum(axis=1)
    runs = runs.assign(own=runs["warm_step_time_s"].astype(float) - remote / runs["steps"])
    runs = runs.assign(quantize=runs["client_quantize_time_s"].astype(float) / runs["steps"])
    setting = ["model", "machine", "step_tokens", "inputs", "recompute", "lora_rank", "bits"]
    works = []
    for key, group in runs.groupby(setting, sort=False):
        means = group.groupby("blocks")[["own", "quantize"]].mean()
        if len(means) > 1:
            lines = *_line(means["own"], least=0.0), *_line(means["quantize"])
            works.append(LocalWork(*key, *lines, ids_of(group[group["blocks"].isin(means.index[:2])])))
    return works


def _line(seconds: pd.Series, least: float = -np.inf) -> tuple[float, float]:
    """Base and slope through the two smallest numbers of blocks; a slope below `least` is noise on a smaller one."""
    (few, many), (low, high) = seconds.index[:2], seconds.iloc[:2]
    slope = max((high - low) / (many - few), least)
    return low - few * slope, slope


@dataclass(frozen=True)
class Local:
    """A step's local work at the wanted tokens: seconds without quantization, seconds of it, where both come from."""

    own_s: float
    quantize_s: float
    recompute: float
    lora_rank: float
    basis: str
    formula: str
    run_ids: str = ""


def local_of(
    works: list[LocalWork], architecture: Architecture, machine: str, tokens: int, inputs: str, recompute: float | None = None
) -> Local | None:
    """The client's own work on a step of the whole model; None where no model was measured on that client's machine.

    Of a model that was not measured: the block's work in proportion to the widths of its layers (inputs + outputs: what norms,
    activations, LoRA and quantization touch), the base's to vocabulary x hidden (head and loss), from the measured model
    nearest in size. At other numbers of tokens: in proportion to them, as if sequences kept their length.
    """
    client = machine.rpartition(" beside ")[2]
    works = [w for w in works if w.machine == client and recompute in (None, w.recompute)]
    if not works:
        return None
    work = min(works, key=lambda w: _distance(w, architecture, tokens, inputs))
    source, share = architecture_of(work.model), tokens / work.tokens
    widths = _widths(architecture) / _widths(source)
    head = architecture.vocabulary * architecture.hidden / (source.vocabulary * source.hidden)
    own = share * (head * work.base_s + architecture.blocks * widths * work.block_s)
    quantize = share * widths * (work.base_quantize_s + architecture.blocks * work.block_quantize_s)
    formula = _local_formula(work, architecture, share, inputs, widths, head)
    basis = "extrapolated" if formula else "measured"
    return Local(own, quantize, work.recompute, work.lora_rank, basis, formula, work.run_ids)


def _distance(work: LocalWork, architecture: Architecture, tokens: int, inputs: str) -> tuple:
    """By size of model, then tokens, then setting: recomputed activations are what a large model needs."""
    size = abs(np.log(architecture_of(work.model).remote_weights / architecture.remote_weights))
    return work.model != architecture.name, size, abs(np.log(tokens / work.tokens)), work.inputs != inputs, -work.recompute


def _widths(architecture: Architecture) -> int:
    return sum(k + d for k, d in architecture.layers.values())


def _local_formula(work: LocalWork, architecture: Architecture, share: float, inputs: str, widths: float, head: float) -> str:
    """What stands between the measured local work and the wanted one; empty if nothing does."""
    said = []
    if work.model != architecture.name:
        said.append(f"{work.model}'s, block x {widths:.4g} (layer widths), base x {head:.4g} (vocabulary x hidden)")
    if share != 1:
        said.append(f"x {share:.4g} (tokens)")
    if work.inputs != inputs and any(shares_an_input(name) for name in architecture.layers):
        said.append(f"of {work.inputs} inputs")
    return f"local work: {', '.join(said)}" if said else ""


@dataclass(frozen=True)
class Scheme:
    """Measured products of one backend, its options, device, machine and bits, by tokens, inputs and outputs.

    options: their name; backend_options: the same as JSON. kinds: `joint`, `apart` or both, as measured. table: columns
    tokens, inputs, outputs, TIMES, SIZES (medians) and run_ids.
    """

    backend: str
    options: str
    device: str
    machine: str
    bits: str
    kinds: tuple[str, ...]
    table: pd.DataFrame
    backend_options: str = ""

    @property
    def remote(self) -> bool:
        """Whether workers multiply; a plaintext product is the client's own."""
        return self.backend in BACKENDS

    @property
    def columns(self) -> dict:
        """The columns of SCHEME."""
        return {name: getattr(self, name) for name in SCHEME}

    def at(self, tokens: int) -> Shapes | None:
        """Products at so many tokens, or on a line between fewer and more; None if there are none."""
        exact = self.table[self.table["tokens"] == tokens]
        if len(exact):
            return Shapes(exact)
        if self.backend not in PER_ROW:
            return between(self.table, tokens)
        rows = self.table.sort_values("tokens").drop_duplicates(["inputs", "outputs"], keep="last")
        per_token = rows[[*TIMES, *SIZES]].mul(tokens / rows["tokens"], axis=0)
        return Shapes(rows.assign(**per_token), f"one row of {self.backend} x {tokens} tokens")


@dataclass(frozen=True)
class Shapes:
    """Costs of products by inputs and outputs, all at the same tokens. formula: how they came to be, empty if measured."""

    table: pd.DataFrame
    formula: str = ""

    @property
    def run_ids(self) -> str:
        """Of the runs that measured these products."""
        return ids_of(self.table)

    @cached_property
    def known(self) -> dict[tuple[int, int], dict]:
        """Seconds and bytes of the measured shapes."""
        return {(line["inputs"], line["outputs"]): line for line in self.table.to_dict("records")}

    @cached_property
    def fits(self) -> dict[str, np.ndarray] | None:
        """Coefficients of [1, K, D, K D] by metric; None with fewer measured shapes than coefficients."""
        shapes = self.table[["inputs", "outputs"]].to_numpy(float)
        if len(shapes) < FEWEST_SHAPES:
            return None
        return {metric: fit(shapes, self.table[metric].to_numpy(float)) for metric in (*TIMES, *SIZES)}

    def cost(self, product: Product) -> dict[str, float] | None:
        """Seconds and bytes of one product: measured, else fitted; None if it can be neither."""
        shape = product.inputs, product.outputs
        if shape in self.known:
            return {metric: self.known[shape][metric] for metric in (*TIMES, *SIZES)}
        if self.fits is None:
            return None
        return {metric: float(features(np.array([shape], float))[0] @ c) for metric, c in self.fits.items()}


def between(table: pd.DataFrame, tokens: int) -> Shapes | None:
    """Products at so many tokens from the nearest that were measured below and above, at the same shapes; None without both."""
    measured = table["tokens"]
    fewer, more = measured[measured < tokens].max(), measured[measured > tokens].min()
    ends = [table[measured == end].set_index(["inputs", "outputs"]) for end in (fewer, more)]
    shapes = ends[0].index.intersection(ends[1].index)
    if not len(shapes):
        return None
    low, high = (end.loc[shapes] for end in ends)
    share, values = (tokens - fewer) / (more - fewer), [*TIMES, *SIZES]
    found = low.assign(tokens=tokens, **((1 - share) * low[values] + share * high[values]))
    found["run_ids"] = [ids_of(*pair) for pair in zip(low["run_ids"], high["run_ids"], strict=True)]
    return Shapes(found.reset_index(), f"products on a line between {fewer:.0f} and {more:.0f} tokens")


def schemes_of(block: pd.DataFrame, names: list[str] | None = None) -> list[Scheme]:
    """Backends as block.csv has them measured: those named, else every encrypting one and the plaintext float32 product."""
    encrypted = [name for name, entry in BACKENDS.items() if entry.encrypted]
    rows = block[block["phase"].isin(["forward", "backward"]) & block["backend"].isin(names or [PLAIN, *encrypted])]
    rows = rows.assign(bits=_bits(rows))
    found = []
    for key, group in rows.groupby(SCHEME, sort=False):
        wide = group.pivot_table("value", ["tokens", "inputs", "outputs"], "metric", aggfunc="median")
        # A plaintext product has neither encryption nor messages: they take nothing.
        table = wide.reindex(columns=[*TIMES, *SIZES]).fillna(0.0)
        table = table.assign(run_ids=group.groupby(table.index.names)["run_id"].agg(ids_of)).reset_index()
        found.append(Scheme(*key, _kinds(group["layer"]), table, group["backend_options"].iloc[0]))
    return found


def _bits(rows: pd.DataFrame) -> list[str]:
    """One text for each row; a backend whose cost does not depend on bits has all its widths in one."""
    labels = [bits_label(a, w) for a, w in zip(rows["activation_bits"], rows["weight_bits"], strict=True)]
    labels = pd.Series(labels, index=rows.index, dtype=object)
    labels[rows["backend"] == PLAIN] = ""
    for name in PER_ROW:
        chosen = rows["backend"] == name
        labels[chosen] = ", ".join(sorted(set(labels[chosen])))
    return list(labels)


def _kinds(layers: pd.Series) -> tuple[str, ...]:
    """Which of `apart` and `joint` the layers were measured in."""
    names = set(layers)
    joint = any("+" in name for name in names)
    # o and down are a product of their own either way.
    apart = not joint or any(shares_an_input(name) for name in names)
    return tuple(kind for kind, there in ((APART, apart), (JOINT, joint)) if there)


def known_architecture(model: str) -> Architecture | None:
    """The architecture of a model by its name in the rows; None for a user's own, whose config.json the rows do not hold."""
    return architecture_of(model) if model in (*ARCHITECTURES, *BUILT_IN_MODELS) else None
