"""Made-up result rows for the tests of tables and figures. Nothing here was measured or may be published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from private_lora.costs.predict import write_costs
from private_lora.results.prepare import collect_literature, collect_published
from private_lora.results.schema import COLUMNS, SCHEMA_VERSION
from private_lora.specs.costs import CostSpec
from private_lora.study.config import DEFAULTS, read_yaml

REFERENCE = Path(__file__).parents[2] / "resources" / "reference"
PAIRS = {
    "DTok-SC": ("dynamic_per_token", "static_per_channel"),
    "DTen-ST": ("dynamic_per_tensor", "static_per_tensor"),
    "ST-ST": ("static_per_tensor", "static_per_tensor"),
}
COUNTERS = {
    "remote_matmuls": (1100, "1"),
    "remote_rows": (17_600, "1"),
    "upload_ciphertext_bytes": (11_123_200, "B"),
    "download_ciphertext_bytes": (14_740_000, "B"),
    "public_material_bytes": (134_217_728, "B"),
    "client_quantize_time_s": (0.4, "s"),
    "encrypt_time_s": (0.6, "s"),
    "matmul_time_s": (42.0, "s"),
    "decrypt_time_s": (0.5, "s"),
    "total_time_s": (47.3, "s"),
    "peak_memory_bytes": (1.2e9, "B"),
    "security_bits": (128, "bit"),
    "train_tokens": (61, "1"),
    "zero_gradient_rows": (0.4, "1"),
    "accumulator_noise_samples": (4096, "1"),
    "accumulator_noise_max": (81, "units"),
}


def run_rows(
    run_id: str, end: float = 0.5, steps: int = 40, norm: float = 1.0, requested: int | None = None, **keys
) -> list[dict]:
    """Rows of one made-up run whose eval loss goes from 2.3 to `end`, with gradient norms around `norm`.

    requested: steps that it was asked for, if not those that it has.
    """
    defaults = {
        "stage": "sweep",
        "model": "mini-llama",
        "dataset": "math_problems",
        "backend": "integer",
        "device": "cpu",
        "activation_quantizer": "dynamic_per_token",
        "weight_quantizer": "static_per_channel",
        "activation_bits": 8,
        "weight_bits": 8,
        "constant_rows": "exact",
        "variant": "",
        "seed": 0,
        "repeat": 0,
        "status": "ok",
        "basis": "simulated" if keys.get("backend", "").endswith("_simulated") else "measured",
        "unit": "1",
    }
    base = defaults | {"run_id": run_id} | keys
    if base["backend"] == "float":
        base |= {"activation_bits": "", "weight_bits": ""}
    random = np.random.default_rng(base["seed"])
    step = np.arange(1, steps + 1)
    loss = end + (2.3 - end) * np.exp(-4 * step / steps) + 0.05 * random.normal(size=steps)
    train = {
        "loss": loss,
        "running_mean_loss": np.cumsum(loss) / step,
        "grad_norm": norm * np.exp(0.2 * random.normal(size=steps)),
        "step_time_s": np.full(steps, 0.5),
    }
    rows = [
        base | {"phase": "train", "step": s, "metric": m, "value": v}
        for m, vs in train.items()
        for s, v in zip(step, vs, strict=True)
    ]
    for s, value in ((0, 2.3), (steps // 2, (2.3 + end) / 2), (steps, end)):
        rows.append(base | {"phase": "eval", "step": s, "metric": "loss", "value": value})
        rows.append(base | {"phase": "eval", "step": s, "metric": "perplexity", "value": np.exp(value)})
    rows.append(base | {"phase": "eval", "step": steps, "metric": "exact_match", "value": 0.25})
    rows.append(base | {"phase": "run", "step": "", "metric": "requested_steps", "value": requested or steps})
    counters = dict(COUNTERS)
    if base["backend"] in ("float", "integer", "concrete_ml"):
        counters = {k: v for k, v in counters.items() if k in ("total_time_s", "peak_memory_bytes", "matmul_time_s")}
    if base["backend"] == "glwe":
        counters |= {"encrypted_matmuls": (1100, "1"), "accumulator_noise_std": (18.6, "units")}
    if base["backend"].startswith("packed"):
        counters |= {"encrypted_matmuls": (0 if base["basis"] == "simulated" else 1100, "1"), "train_time_s": (99.0, "s")}
        counters |= {"largest_log2_q": (24 if base["variant"] else 40, "bits"), "largest_ring_size": (2048, "")}
    if base["backend"] in ("packed_approx", "packed_simulated"):
        counters |= {"accumulator_noise_std": (51.5 if base["backend"] == "packed_approx" else 50.0, "units")}
    if base["backend"] == "glwe_simulated":
        counters |= {"accumulator_noise_std": (19.0, "units")}
    if base["backend"] == "concrete_ml":
        counters |= {"hybrid_path": (1, "")}
        base |= {"options": '{"path":"circuit"}'}
    return rows + [base | {"phase": "run", "step": "", "metric": m, "value": v, "unit": u} for m, (v, u) in counters.items()]


def sweep_rows(bits=(4, 6, 8, 12, 16), seeds=(0, 1), models=("mini-llama", "mini-llama-outlier")) -> list[dict]:
    """A made-up sweep in which static and per-tensor quantization fail on the outlier variant."""
    rows = []
    for model in models:
        for seed in seeds:
            keys = {"model": model, "seed": seed}
            rows += run_rows(f"{model}-float-{seed}", 0.5 + 0.01 * seed, backend="float", **keys)
            for pair, (activation, weight) in PAIRS.items():
                for b in bits if model == "mini-llama" else [b for b in bits if b in (8, 16)]:
                    excess = 0.02 * 2.0 ** (4 - b) * (1 if pair == "DTok-SC" else 6)
                    excess += 0.6 if "outlier" in model and pair != "DTok-SC" and b == 8 else 0
                    keys |= {"activation_quantizer": activation, "weight_quantizer": weight}
                    end = (0.5 + 0.01 * seed) * (1 + excess)
                    rows += run_rows(f"{model}-{pair}-{b}-{seed}", end, activation_bits=b, weight_bits=b, **keys)
    return rows


def encrypted_rows(model: str = "nano", steps: int = 5) -> list[dict]:
    """Made-up twins of one encrypted run; the one with reference constant rows has inflated gradients."""
    keys = {"stage": "encrypted", "model": model, "steps": steps, "activation_bits": 7, "weight_bits": 7}
    rows = run_rows("enc-float", 1.9, backend="float", **keys)
    rows += run_rows("enc-integer", 1.901, **keys)
    rows += run_rows("enc-simulated", 1.902, norm=1.01, backend="glwe_simulated", **keys)
    rows += run_rows("enc-glwe", 1.9025, norm=1.012, backend="glwe", **keys)
    rows += run_rows("enc-glwe-ref", 1.97, norm=900, backend="glwe", constant_rows="reference", **keys)
    rows += run_rows("enc-cml", 1.903, norm=1.02, backend="concrete_ml", variant="execute", **keys)
    return rows + run_rows("enc-cml-clear", 1.901, norm=1.0, backend="concrete_ml", variant="disable", **keys)


def inflation_rows() -> list[dict]:
    """Made-up simulated runs at 7 bits, with and without the reference constant rows, and float."""
    keys = {"stage": "inflation", "activation_bits": 7, "weight_bits": 7}
    rows = run_rows("inf-float", 0.9, backend="float", **keys)
    rows += run_rows("inf-exact", 0.91, norm=1.01, backend="glwe_simulated", **keys)
    return rows + run_rows("inf-ref", 1.2, norm=1600, backend="glwe_simulated", constant_rows="reference", **keys)


def packed_rows(steps: int = 10) -> list[dict]:
    """Made-up packed stage: an exact run that equals its integer twin, and an approximate one with its prediction."""
    keys = {"stage": "packed", "steps": steps}
    rows = run_rows("pk-float", 0.89, backend="float", **keys) + run_rows("pk-integer", 0.9, **keys)
    rows += run_rows("pk-packed", 0.9, backend="packed", **keys)
    approximate = {"variant": "log2 Q 24", **keys}
    rows += run_rows("pk-approx", 0.901, backend="packed_approx", **approximate)
    return rows + run_rows("pk-simulated", 0.902, backend="packed_simulated", **approximate)


def layer_rows(shapes=("1x256x256", "16x2048x2048", "1x2048x512")) -> list[dict]:
    """Made-up times of operations and bytes of one layer, three repeats, for float, integer and glwe."""
    rows = []
    for shape in shapes:
        n_rows, inputs, outputs = map(int, shape.split("x"))
        work = n_rows * inputs * outputs
        metrics = {
            "float": {"matmul_time_s": 1e-10 * work},
            "integer": {"matmul_time_s": 4e-10 * work},
            "glwe": {
                "encrypt_time_s": 5e-4 * n_rows,
                "matmul_time_s": 4e-3 * n_rows * outputs,
                "decrypt_time_s": 3.5e-4 * n_rows,
                "upload_ciphertext_bytes": 10112 * n_rows,
                "download_ciphertext_bytes": 13400 * n_rows,
                "public_material_bytes": 134217728,
            },
        }
        for backend, values in metrics.items():
            for repeat in range(3):
                for metric, value in values.items():
                    row = {
                        "run_id": f"lat-{backend}-{shape}",
                        "stage": "layer",
                        "backend": backend,
                        "device": "cpu",
                        "tokens": n_rows,
                        "inputs": inputs,
                        "outputs": outputs,
                        "repeat": "" if "public" in metric else repeat,
                        "phase": "run" if "public" in metric else "forward",
                        "metric": metric,
                        "status": "ok",
                        "activation_bits": "" if backend == "float" else 7,
                        "weight_bits": 7,
                        "basis": "measured",
                        "unit": "B" if "bytes" in metric else "s",
                        "value": value * (1 + 0.1 * repeat),
                        "seed": 0,
                    }
                    rows.append(row)
    return rows


BLOCK_LAYERS = {"q": (2048, 2048), "k": (2048, 512), "v": (2048, 512), "o": (2048, 2048)}
BLOCK_LAYERS |= {"gate": (2048, 8192), "up": (2048, 8192), "down": (8192, 2048)}
# How slow the made-up machine is in each repeat, and each backend's time over plaintext float32 there (server, client): the
# median of ratios is not the ratio of medians.
BLOCK_SPEEDS = (1.0, 3.0, 2.0)
BLOCK_RATIOS = {
    "plaintext_float32": ((1.0, 1.0, 1.0), None),
    "plaintext_int8": ((0.25, 0.25, 0.25), None),
    "packed": ((1.7, 1.8, 1.9), (0.3, 0.35, 0.4)),
    "packed_approx": ((0.7, 0.8, 0.9), (0.2, 0.25, 0.3)),
}
# Ratios that meet every target.
MET = {"packed": ((1.0, 1.1, 1.2), (0.3, 0.35, 0.4)), "packed_approx": ((0.5, 0.6, 0.7), (0.2, 0.25, 0.3))}
BLOCK_BYTES = {"packed": (4.0, 5.5), "packed_approx": (3.0, 3.0)}


def block_rows(tokens=(512, 2048), layers=BLOCK_LAYERS, ratios=None, glwe: bool = True) -> list[dict]:
    """Made-up measurements of a block at some batch sizes, and of `glwe` on one row of the layers q and k."""
    rows = []
    for count in tokens:
        samples: dict[tuple, int] = {}
        for name, (server, client) in (BLOCK_RATIOS | (ratios or {})).items():
            for repeat, speed in enumerate(BLOCK_SPEEDS):
                for layer, (inputs, outputs) in layers.items():
                    plain = 1e-12 * speed * count * inputs * outputs
                    metrics = {"matmul_time_s": plain * server[repeat]}
                    if client:
                        metrics |= {
                            "encrypt_time_s": 0.25 * plain * client[repeat],
                            "decrypt_time_s": 0.75 * plain * client[repeat],
                        }
                    for phase, (k, d) in (("forward", (inputs, outputs)), ("backward", (outputs, inputs))):
                        up, down = BLOCK_BYTES.get(name, (0, 0))
                        sizes = {"upload_ciphertext_bytes": up * k * count, "download_ciphertext_bytes": down * d * count}
                        sample = samples.setdefault((name, k, d, repeat), len(samples))
                        for metric, value in (metrics | (sizes if client else {})).items():
                            columns = {"repeat": repeat, "sample": sample, "phase": phase, "metric": metric, "value": value}
                            rows.append(_block_row(name, count, layer, k, d) | columns)
            rows.append(_block_row(name, count) | {"phase": "run", "metric": "mismatches", "value": 0})
        rows.append(_block_row("", count) | {"phase": "run", "metric": "blocks", "value": 16})
        rows.append(_block_row("", count) | {"phase": "run", "metric": "torch_threads", "value": 2})
    return rows + (glwe_rows(layers, ("q", "k")) if glwe else [])


def glwe_rows(layers=BLOCK_LAYERS, names=tuple(BLOCK_LAYERS)) -> list[dict]:
    """Made-up measurements of `glwe` on one row of the layers named."""
    rows, samples = [], {}
    for layer in names:
        for phase, (k, d) in (("forward", layers[layer]), ("backward", layers[layer][::-1])):
            metrics = {"encrypt_time_s": 1e-3, "matmul_time_s": 8e-3 * d, "decrypt_time_s": 1e-3}
            metrics |= {"upload_ciphertext_bytes": 10_000, "download_ciphertext_bytes": 14_000 if d >= 2048 else 9_000}
            for metric, value in metrics.items():
                sample = samples.setdefault((k, d), len(samples))
                row = _block_row("glwe", 1, layer, k, d) | {"repeat": 0, "sample": sample, "phase": phase}
                rows.append(row | {"metric": metric, "value": value})
    return rows


# Made-up client's own work by model: seconds of a step apart from its blocks, of one block, and of its quantization.
LOCAL_WORK = {"Llama-3.2-1B": (3.0, 0.5, 0.25), "mini-llama": (0.2, 0.05, 0.01)}
FULL_SIZE = {
    "Llama-3.2-1B (random weights)": {"model_blocks": 16, "packed": (1.0, 16.0, 3.0)},
    "mini-llama": {"model_blocks": 6, "packed": (0.002, 0.04, 0.006)},
}


def full_size_rows(steps: int = 3) -> list[dict]:
    """Made-up steps of whole models, `integer` and `packed`, and `integer` ones of one and two blocks."""
    rows = []
    for model, facts in FULL_SIZE.items():
        for backend, blocks in (("integer", 1), ("integer", 2), ("integer", None), ("packed", None)):
            rows += full_size_run(model, backend, facts, blocks, steps)
    return rows


def full_size_run(model: str, backend: str, facts: dict, blocks: int | None, steps: int) -> list[dict]:
    """One made-up run of 2,048 tokens a step; times of operations: encrypt, matmul, decrypt."""
    base, block, quantize = LOCAL_WORK[model.removesuffix(" (random weights)")]
    whole = facts["model_blocks"]
    stages = facts["packed"] if backend == "packed" else (0.0, 0.5 * (blocks or whole), 0.0)
    quantized = quantize * (blocks or whole)
    step = base + block * (blocks or whole) + quantized + sum(stages)
    values = {"client_quantize_time_s": quantized * steps, "train_time_s": step * steps, "step_tokens": 2048}
    names = ("encrypt_time_s", "matmul_time_s", "decrypt_time_s")
    values |= {name: seconds * steps for name, seconds in zip(names, stages, strict=True)}
    values |= {"blocks": blocks or whole, "model_blocks": whole, "share_inputs": 0, "recompute": 1, "lora_rank": 8}
    values |= {"peak_memory_bytes": 1e10, "remote_matmuls": 900, "security_bits": 128 if backend == "packed" else 0}
    values |= {"encrypted_matmuls": 900 if backend == "packed" else 0}
    sent = 2048 * steps if backend == "packed" else 0
    values |= {"upload_ciphertext_bytes": 3e6 * sent, "download_ciphertext_bytes": 4e6 * sent}
    name = model.replace(" (random weights)", "-random-weights")
    row = {"run_id": f"full-{name}-{backend}-{blocks}", "stage": "full_size", "model": model, "dataset": "random_tokens"}
    row |= {"backend": backend, "device": "cpu", "activation_quantizer": "dynamic_per_token", "basis": "measured"}
    row |= {"weight_quantizer": "static_per_channel", "activation_bits": 8, "weight_bits": 8, "constant_rows": "exact"}
    row |= {"variant": "", "seed": 0, "status": "ok"}
    rows = [row | {"phase": "run", "metric": name, "value": value} for name, value in values.items()]
    for number in range(1, steps + 1):
        train = {"loss": 12 - 0.01 * number, "grad_norm": 1.0, "step_time_s": step}
        rows += [row | {"phase": "train", "step": number, "metric": name, "value": value} for name, value in train.items()]
    return rows


def _block_row(backend: str, tokens: int, layer: str = "", inputs: int | str = "", outputs: int | str = "") -> dict:
    row = {"run_id": f"block-{'glwe' if backend == 'glwe' else 'compared'}-{tokens}", "stage": "block", "model": "Llama-3.2-1B"}
    row |= {"backend": backend, "device": "cpu", "activation_bits": 8, "weight_bits": 8, "variant": "", "status": "ok"}
    return row | {"basis": "measured", "layer": layer, "tokens": tokens if layer else "", "inputs": inputs, "outputs": outputs}


def records(rows: list[dict]) -> pd.DataFrame:
    """Rows in the columns of the result schema."""
    return pd.DataFrame([{"schema_version": SCHEMA_VERSION} | row for row in rows], columns=COLUMNS)


def write_results(
    root: Path, convergence=None, layer=None, published: bool = True, block=None, loopback=(), **others: list[dict]
) -> Path:
    """The result directory `root/data` holding the given rows (default: all the above) and published ones.

    Where rows of one layer are given, none of a block's are made up; those of the stages loopback,
    generation, estimate and worker_view (`others`) never are. costs.csv is what the cost model makes of them.
    """
    data = Path(root) / "data"
    data.mkdir(parents=True, exist_ok=True)
    if convergence is None:
        convergence = sweep_rows() + encrypted_rows() + inflation_rows() + packed_rows() + full_size_rows()
    if block is None:
        block = block_rows() if layer is None else []
    layer = layer_rows() if layer is None else layer
    kinds = {"convergence": convergence, "loopback": loopback, "layer": layer, "block": block}
    kinds |= {kind: others.get(kind, ()) for kind in ("generation", "estimate", "worker_view")}
    for name, rows in kinds.items():
        records(rows).to_csv(data / f"{name}.csv", index=False)
    _write_sidecars(root, [*convergence, *loopback])
    write_costs(CostSpec.from_dict(read_yaml(DEFAULTS)["costs"]), data, data / "costs.csv")
    if published:
        collect_published(REFERENCE, data / "published_values.csv", data / "published_curves.csv")
        collect_literature(REFERENCE, data / "published_literature.csv")
    return data


def _write_sidecars(root: Path, rows: list[dict]) -> None:
    """Of each run that names its largest ring and modulus, with one product that has them."""
    named: dict[str, dict] = {}
    for row in rows:
        if row["metric"] in ("largest_ring_size", "largest_log2_q"):
            named.setdefault(row["run_id"], {})[row["metric"]] = row["value"]
    for run_id, largest in named.items():
        path = Path(root) / "runs" / run_id / "sidecar.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        parameters = {"ring_size": largest["largest_ring_size"], "log2_q": largest["largest_log2_q"], "mask": "session"}
        spec = {"run_id": run_id, "stage": "packed"}
        path.write_text(json.dumps({"spec": spec, "layers": {"only": {"parameters": parameters, "security_bits": 128}}}))
