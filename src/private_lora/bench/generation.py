"""A text generated token by token, in process or through workers on this machine: seconds, bytes and round trips of each."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import torch

from private_lora.bench.loopback import started_workers
from private_lora.core.memory import peak_memory_bytes
from private_lora.models.load import model_hash
from private_lora.results.provenance import Start, machine, write_sidecar
from private_lora.results.recorder import Recorder
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS
from private_lora.specs.loopback import GenerationSpec
from private_lora.split.place import Place
from private_lora.split.session import Session
from private_lora.training.generation import Writer, prepare_writer, write
from private_lora.training.preparation import quantization_of

# Of each token, as the difference of what was counted before and after it: our name, the session's, unit.
TIMINGS = {
    "client_quantize_time_s": "quantize_s",
    "encrypt_time_s": "encrypt_s",
    "matmul_time_s": "matmul_s",
    "wait_time_s": "wait_s",
    "decrypt_time_s": "decrypt_s",
    "verify_time_s": "verify_s",
    "offline_time_s": "offline_s",
}
COUNTERS = {
    "remote_matmuls": ("products", ""),
    "encrypted_matmuls": ("encrypted_products", ""),
    "round_trips": ("round_trips", ""),
    "upload_ciphertext_bytes": ("upload_ciphertext_bytes", "B"),
    "download_ciphertext_bytes": ("download_ciphertext_bytes", "B"),
    "sent_bytes": ("sent_bytes", "B"),
    "received_bytes": ("received_bytes", "B"),
}


def generation(spec: GenerationSpec, out: Path) -> None:
    """Write the rows of a measurement (`out`) and a sidecar beside it. Starts the workers, if there are any, and stops them.

    Tokens are steps. The first is that of the whole prompt, the second the first of a single row, which pays for what is made
    once. Raises RuntimeError if a backend that encrypts counted no encrypted product.
    """
    started = Start()
    with started_workers(spec, out.parent) as place:
        _measure(spec, place, started, out)


def _measure(spec: GenerationSpec, place: Place | None, started: Start, out: Path) -> None:
    start = time.perf_counter()
    writer = prepare_writer(spec.run, place)
    setup_s = time.perf_counter() - start
    recorder = Recorder(_columns(spec))
    for repeat in range(spec.repeats):
        write(writer, _Meter(writer.session, recorder, repeat))
    recorder.add("setup_time_s", setup_s, "s", phase="setup")
    for metric, (value, unit) in _facts(spec, writer).items():
        recorder.add(metric, value, unit, phase="run")
    recorder.add_shares(started.cpu_shares())
    write_sidecar(
        out.parent / "sidecar.json",
        {
            "spec": spec.to_dict(),
            "spec_digest": spec.digest(),
            "environment": started.environment(),
            "torch_threads": torch.get_num_threads(),
            "model_hash": model_hash(spec.run.model, spec.run.revision),
            "place": writer.session.place.report(),
            "layers": {p.name: p.plan.report() for p in writer.session.products},
        },
    )
    recorder.write(out)


class _Meter:
    """Told of each token: rows of what it took since the one before."""

    def __init__(self, session: Session, recorder: Recorder, repeat: int):
        self._session, self._recorder, self._repeat, self._step = session, recorder, repeat, 0
        self._before = self._counted()
        self._start = time.perf_counter()

    def _counted(self) -> dict:
        return asdict(self._session.timings) | asdict(self._session.counters)

    def __call__(self, token: int) -> None:
        seconds = time.perf_counter() - self._start
        counted = self._counted()
        self._step += 1
        self._add("token_time_s", seconds, "s")
        self._add("token_id", token)
        for metric, (name, unit) in ({m: (n, "s") for m, n in TIMINGS.items()} | COUNTERS).items():
            self._add(metric, counted[name] - self._before[name], unit)
        self._before = counted
        self._start = time.perf_counter()

    def _add(self, metric: str, value: float, unit: str = "") -> None:
        self._recorder.add(metric, value, unit, phase="token", repeat=self._repeat, step=self._step)


def _columns(spec: GenerationSpec) -> dict:
    run = spec.run
    entry = BACKENDS[run.backend]
    columns = {
        "run_id": spec.run_id,
        "stage": spec.stage,
        "model": run.model if run.weights == "pretrained" else f"{run.model} (random weights)",
        "dataset": "random_tokens",
        "backend": run.backend,
        "device": run.device,
        "machine": machine(run.device),
        "variant": spec.variant,
        "options": options_text(run.backend_options),
        "seed": run.seed,
        "basis": entry.basis,
    }
    return columns | (asdict(quantization_of(run)) if entry.quantized else {})


def _facts(spec: GenerationSpec, writer: Writer) -> dict[str, tuple[float, str]]:
    """Of the run as a whole, what is paid before the first token included."""
    session = writer.session
    facts = {
        "prompt_tokens": (len(writer.prompt), "tokens"),
        "new_tokens": (spec.run.max_new_tokens, "tokens"),
        "blocks": (writer.model.config.num_hidden_layers, ""),
        "share_inputs": (int(spec.run.share_inputs), ""),
        "public_material_bytes": (session.public_material_bytes, "B"),
        "security_bits": (min(p.plan.security_bits for p in session.products), "bits"),
        "retries": (session.counters.retries, ""),
        "rejected_answers": (session.counters.rejected_answers, ""),
        "peak_memory_bytes": (peak_memory_bytes(), "B"),
    }
    return facts | session.place.metrics()
