"""What is compared: functions that compute known answers from the tree they run in, as plain data."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import names
import numpy as np

HERE = Path(__file__).parent
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_tile")
SHAPES = ((64, 64), (256, 512), (2048, 256))
PLANNED = (
    *(("packed", bits, {}) for bits in (4, 8, 12, 16)),
    ("packed", 8, {"security": "chaloy21_quantum"}),
    ("packed", 8, {"failure_log2": -128}),
    *(("packed_approx", 8, {"log2_q": log2_q}) for log2_q in (20, 22, 24, 26, 28)),
    ("packed_approx", 12, {"log2_q": 26}),
    ("packed_simulated", 8, {"log2_q": 24}),
    *((name, bits, {}) for name in ("glwe", "glwe_simulated") for bits in (7, 8)),
    *(("integer", bits, {}) for bits in (4, 8, 16)),
    ("float", 8, {}),
)
BITS = (2, 4, 7, 8, 12, 16)
ROWS = ("exact", "reference")
RANGE = (-2.0, 3.0)
PAIRS = (
    ("dynamic_per_token", "static_per_channel"),
    ("dynamic_per_tensor", "static_per_tensor"),
    ("static_per_tensor", "static_per_tensor"),
)
# Name of a message: backend, bits, options, inputs, outputs, rows.
WIRE = {
    "packed 8 bit": ("packed", 8, {}, 64, 64, 3),
    "packed 16 bit": ("packed", 16, {}, 64, 96, 2),
    "packed 8 bit, wide": ("packed", 8, {}, 300, 130, 17),
    "packed_approx log2 Q 22": ("packed_approx", 8, {"log2_q": 22}, 64, 16, 3),
    "packed_approx log2 Q 26": ("packed_approx", 8, {"log2_q": 26}, 64, 64, 3),
    "integer 8 bit": ("integer", 8, {}, 64, 64, 3),
    "integer 12 bit": ("integer", 12, {}, 64, 64, 3),
    "glwe_simulated 8 bit": ("glwe_simulated", 8, {}, 64, 64, 3),
    "packed_simulated log2 Q 24": ("packed_simulated", 8, {"log2_q": 24}, 64, 64, 3),
}
# The messages of these are kept as bytes, too.
KEPT = {"packed_approx log2 Q 22": "packed_approx", "integer 8 bit": "integer"}
NANO = {
    "model": "nano", "data": "random_tokens", "lora_rank": 2, "steps": 4, "warmup_steps": 1, "batch_size": 2,
    "sequence_length": 16, "train_examples": 8, "eval_examples": 2, "eval_every": 2, "checkpoint_every": 2, "stage": "manual",
}  # fmt: skip
EIGHT = {"activation_bits": 8, "weight_bits": 8}
RESUMED = {"integer": NANO | EIGHT | {"backend": "integer"}, "packed": NANO | EIGHT | {"backend": "packed"}}
CODEBASE = "integer codebase"
TRAINED = {
    "float": {"backend": "float"},
    **{
        f"integer {activations} {weights}": EIGHT
        | {"backend": "integer", "activation_quantizer": activations, "weight_quantizer": weights}
        for activations, weights in PAIRS
    },
    "integer 4 bit apart": {"backend": "integer", "activation_bits": 4, "weight_bits": 4, "share_inputs": False},
    "integer reference rows": EIGHT | {"backend": "integer", "constant_rows": "reference"},
    "integer recomputed": EIGHT | {"backend": "integer", "recompute": True},
    "integer seed 3": EIGHT | {"backend": "integer", "seed": 3, "data": "math_problems", "sequence_length": 80},
    # The text is that of Python's own library, so it changes with its version.
    CODEBASE: EIGHT
    | {
        "backend": "integer",
        "seed": 1,
        "data": "codebase",
        "count_padding": True,
        "lr_schedule": "constant",
        "weight_decay": 0.1,
    },
    "packed": EIGHT | {"backend": "packed"},
    "packed 16 bit": {"backend": "packed", "activation_bits": 16, "weight_bits": 16},
    "packed_approx": EIGHT | {"backend": "packed_approx", "backend_options": {"log2_q": 24}},
    "packed_simulated": EIGHT | {"backend": "packed_simulated", "backend_options": {"log2_q": 24}},
    "glwe_simulated": {"backend": "glwe_simulated", "activation_bits": 7, "weight_bits": 7},
    "mini-llama integer": EIGHT
    | {"backend": "integer", "model": "mini-llama", "data": "math_problems", "sequence_length": 80, "generate_examples": 1},
    "mini-llama packed": EIGHT | {"backend": "packed", "model": "mini-llama", "data": "math_problems", "sequence_length": 80},
}
# Rows of a run that are the same whenever it is repeated.
COMPARED = ("loss", "running_mean_loss", "grad_norm", "learning_rate", "perplexity", "exact_match")


def cpu() -> dict:
    """Processor and the flags that decide which kernels multiply floats: float32 sums are equal digit for digit on the same."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    present = set(fields.get("flags", "").split())
    return {"model": fields.get("model name", platform.processor()), "flags": [flag for flag in FLAGS if flag in present]}


def versions() -> dict:
    """Of what else decides the last digit of a float32 loss."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "numpy")} | {"python": platform.python_version()}


def sha256(*arrays) -> str:
    """Of types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


@contextlib.contextmanager
def fixed_randomness(seed: int = 0):
    """The operating system's random bytes, of `os.urandom` and of seeds, replaced by a stream from a seed.

    Only for this package: others draw names of temporary files, at times that depend on what is cached.
    """
    drawn, real = itertools.count(), os.urandom

    def urandom(count: int) -> bytes:
        if not sys._getframe(1).f_globals.get("__name__", "").startswith("private_lora"):
            return real(count)
        return stream(count)

    def stream(count: int) -> bytes:
        return hashlib.shake_256(f"{seed} {next(drawn)}".encode()).digest(count)

    def fill(buffer: bytearray) -> None:
        buffer[:] = stream(len(buffer))

    with mock.patch.object(os, "urandom", urandom), mock.patch.object(names.sampling, "_fill", fill):
        yield


@contextlib.contextmanager
def one_thread():
    """One thread for torch, numba and NumPy, because float32 sums depend on their number."""
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def integers(seed, bits: int, shape) -> np.ndarray:
    """Uniform signed integers of these bits."""
    half = 2 ** (bits - 1)
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(-half, half, shape)
    return drawn.astype(np.int8 if bits <= 8 else np.int16)


def floats(seed, shape) -> np.ndarray:
    """Uniform float32 from integers, so that no version of NumPy's normal numbers matters."""
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(-(2**20), 2**20, shape)
    return (drawn / 2**18).astype(np.float32)


def plans() -> dict:
    """Plans of fixed weights as canonical values, or the sentence that refuses one, by backend, bits, options and shape."""
    found = {}
    for backend, bits, options in PLANNED:
        for shape in SHAPES:
            name = f"{backend} {bits} bit {json.dumps(options, sort_keys=True)} {shape[0]}x{shape[1]}"
            try:
                plan = names.load(backend, **options).plan(integers([7, bits, *shape], bits, shape), bits)
                found[name] = json.loads(names.present_plan(plan))
            except ValueError as error:
                found[name] = f"refused: {error}"
    return found


def awkward_rows() -> np.ndarray:
    """Rows to quantize: ordinary ones, constant ones of either sign, zeros, an outlier, tiny values and equal neighbours."""
    x = floats(11, (16, 33))
    x[1], x[2], x[3], x[4] = 0, 2.5, -0.375, 1e-30
    x[5, 7], x[6], x[7, 1:] = 1000, x[6] * np.float32(1e-38), x[7, 0]
    x[8], x[9], x[10] = np.abs(x[8]), -np.abs(x[9]), np.float32(1e-42)
    x[11, ::2], x[11, 1::2] = 1, np.nextafter(np.float32(1), np.float32(2))
    return x


def quantized() -> dict:
    """SHA-256 of values, scales and zero points, and of dequantized products, by quantizer, bits and treatment of rows."""
    found = {}
    x, w = awkward_rows(), np.ascontiguousarray(awkward_rows().T)
    for rows in ROWS:
        for bits in BITS:
            by_name = {}
            for name in names.ACTIVATION_QUANTIZERS:
                by_name[name] = q = names.quantize_activations(x, bits, name, rows, RANGE)
                found[f"activations {name} {bits} bit {rows}"] = sha256(q.values, q.scale, q.zero_point)
            for name in names.WEIGHT_QUANTIZERS:
                q = names.quantize_weight(w, bits, name, rows)
                found[f"weight {name} {bits} bit {rows}"] = sha256(q.values, q.scale, q.zero_point, q.column_sums)
                for activations, rowed in by_name.items():
                    product = rowed.values.astype(np.int64) @ q.values.astype(np.int64)
                    y = names.dequantize_product(product, rowed, q.terms)
                    found[f"product {activations} {name} {bits} bit {rows}"] = sha256(y)
    return found


def weights() -> dict:
    """Digests of the forward and backward weight of three layers side by side, by quantization."""
    found, weight = {}, floats(13, (48, 40))
    weight[:, 3], weight[5] = 0, 0.25
    choices = [names.Quantization("dynamic_per_token", "static_per_channel", None, None, "exact")]
    choices += [
        names.Quantization("dynamic_per_token", name, bits, bits, rows)
        for name in names.WEIGHT_QUANTIZERS
        for bits in (4, 8, 16)
        for rows in ROWS
    ]
    for quantization in choices:
        name = f"{quantization.weight_quantizer} {quantization.weight_bits} bit {quantization.constant_rows}"
        forward = names.forward_weight(weight, "layer", (16, 8, 16), quantization)
        backward = names.backward_weight(weight, "layer", quantization)
        for w in (forward, backward):
            found[f"{w.name} {name}"] = w.digest().hex()
    return found


def exchange(name: str):
    """Backend, client, question's and answer's bytes of a product under fixed randomness, and the product over the integers."""
    backend_name, bits, options, inputs, outputs, rows = WIRE[name]
    weight, x = integers([17, bits], bits, (inputs, outputs)), integers([19, bits], bits, (rows, inputs))
    # Which bytes are drawn first depends on the number of threads.
    with one_thread(), fixed_randomness():
        backend = names.load(backend_name, **options)
        plan = backend.plan(weight, bits)
        client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
        question = client.encrypt(x)
        asked = question.to_bytes()
        # A server sees bytes, and so does a client.
        answered = server.matmul(backend.ciphertext_from_bytes(asked)).to_bytes()
    return backend, client, asked, answered, x.astype(np.int64) @ weight.astype(np.int64)


def wire() -> dict:
    """SHA-256 and length of questions and answers under fixed randomness, and of what the client decrypts."""
    found = {}
    for name in WIRE:
        backend, client, asked, answered, _ = exchange(name)
        y = client.decrypt(backend.ciphertext_from_bytes(answered))
        found[name] = {
            "question": [len(asked), hashlib.sha256(asked).hexdigest()],
            "answer": [len(answered), hashlib.sha256(answered).hexdigest()],
            "decrypted": sha256(y),
        }
    return found


def checks() -> dict:
    """SHA-256 of the secret of a check of answers and its product with the weight, under fixed randomness."""
    found = {}
    for bits, inputs, outputs in ((8, 64, 48), (16, 300, 20)):
        weight = integers([23, bits], bits, (inputs, outputs))
        bound = int(np.abs(weight.astype(np.int64)).sum(axis=0).max()) * 2 ** (bits - 1)
        with fixed_randomness():
            check = names.AnswerCheck(weight, bound)
        found[f"{bits} bit {inputs}x{outputs}"] = sha256(*names.check_secret(check))
    return found


class Recording(names.InProcess):
    """A place that keeps name, digest and plan of every product, as a client of workers does."""

    def __init__(self):
        self.products = []

    def server(self, backend, plan, weight):
        self.products.append(names.Expected(weight.name, weight.digest(), names.present_plan(plan)))
        return super().server(backend, plan, weight)


def handshakes() -> dict:
    """What client and worker of nano tell each other before the first ciphertext: messages in hex, digests and plans."""
    found = {}
    for backend, bits in (("packed", 8), ("integer", 12), ("float", None)):
        for shared in (True, False):
            values = NANO | {"backend": backend, "activation_bits": bits, "weight_bits": bits, "share_inputs": shared}
            spec = names.RunSpec.from_dict(values | {"run_id": "known"})
            place = Recording()
            names.load_split(names.RunSpec.from_dict(as_it_was(spec.to_dict())), place)
            identity = names.model_identity(spec.model, spec.revision, spec.weights, spec.seed)
            settings = names.Settings.of(spec, identity).message()
            products = [names.messages.Product(name=p.name, weight_sha256=p.weight_sha256, plan=p.plan) for p in place.products]
            welcome = names.messages.Welcome(
                protocol_version=names.PROTOCOL_VERSION, session_id=bytes(16), settings=settings, products=products
            )
            found[f"{backend} {'joint' if shared else 'apart'}"] = {
                "settings": settings.SerializeToString(deterministic=True).hex(),
                "welcome": hashlib.sha256(welcome.SerializeToString(deterministic=True)).hexdigest(),
                "products": {
                    p.name: [p.weight_sha256.hex(), hashlib.sha256(p.plan.encode()).hexdigest()] for p in place.products
                },
            }
    return found


def specs(study) -> dict:
    """Fields and digest of every spec of a study, by kind and run_id."""
    return {
        kind: {run_id: {"fields": names.spec_fields(spec), "digest": spec.digest()} for run_id, spec in by_id.items()}
        for kind, by_id in names.present_specs(study).items()
    }


def rows_of(run) -> list[list]:
    """Phase, step, metric and value of the rows of a run that are no times, in order."""
    return [[row["phase"], row["step"], row["metric"], row["value"]] for row in run.recorder.rows if row["metric"] in COMPARED]


def trained(name: str, directory: Path) -> dict:
    """Rows and counters of two steps, under fixed randomness and on one thread."""
    spec = names.RunSpec.from_dict(as_it_was(NANO | {"steps": 2, "checkpoint_every": 9} | TRAINED[name] | {"run_id": "known"}))
    with one_thread(), fixed_randomness():
        run = names.prepare(spec, directory / name)
        names.train(run)
    return {"rows": rows_of(run), "counters": names.counted(run.session), "noise": noise_of(run)}


def noise_of(run) -> dict:
    """What was measured of the error of decrypted products; no key of it is a time."""
    return {key: value for key, value in asdict(run.session.noise).items() if value}


def resumed_spec(name: str):
    """The spec of a run that is resumed."""
    return names.RunSpec.from_dict(RESUMED[name] | {"run_id": f"resumed-{name}"})


def as_it_was(values: dict) -> dict:
    """Values of a run's spec, which say what b24a8b2 did without being told."""
    options = names.present_options(values["backend"], values.get("backend_options", {}))
    return values | ({"backend_options": options} if options else {})


def finished(name: str, directory: Path, spec=None) -> dict:
    """Rows and counters of a run, from the checkpoint in the directory if it has one. spec: by default `resumed_spec`."""
    with one_thread(), fixed_randomness():
        run = names.prepare(spec or resumed_spec(name), directory)
        saved = run.checkpoint.load()
        names.train(run)
    counts = {"counters": names.counted(run.session), "train_tokens": run.train_tokens}
    return counts | {"rows": rows_of(run), "started_at": saved["step"] if saved else 0}


def checkpoint_after(name: str, steps: int, directory: Path) -> Path:
    """Path of the checkpoint of a run that ended after so many steps."""

    class Killed(Exception):
        pass

    with one_thread(), fixed_randomness():
        run = names.prepare(resumed_spec(name), directory)
        save = run.checkpoint.save

        def save_and_die(state):
            save(state)
            if state["step"] >= steps:
                raise Killed

        with mock.patch.object(run.checkpoint, "save", save_and_die), contextlib.suppress(Killed):
            names.train(run)
    return run.checkpoint.path
