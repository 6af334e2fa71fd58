"""`finetune`: one run from its spec to its records, sidecar and adapter."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError

from private_lora.core.errors import Interrupted
from private_lora.core.files import atomic_directory
from private_lora.core.memory import peak_memory_bytes
from private_lora.core.names import load_object
from private_lora.core.secrets import hardening
from private_lora.models.load import model_hash
from private_lora.results.provenance import Start, write_sidecar
from private_lora.specs.backends import BACKENDS
from private_lora.specs.data import DATASETS
from private_lora.specs.run import RunSpec
from private_lora.split.overflow import kind_of
from private_lora.split.place import Place
from private_lora.training.evaluation import to_tensors
from private_lora.training.exactness import exactness
from private_lora.training.live import Listener, Live
from private_lora.training.loop import evaluate, record_step, train
from private_lora.training.preparation import Run, check_encrypted, prepare


def finetune(
    spec: RunSpec, out: Path, checkpoints: Path, place: Place | None = None, listeners: Sequence[Listener] = ()
) -> bool:
    """Whether the run ended with finite losses. Writes `out` (records), sidecar.json and adapter/ beside it.

    place: of the remote products; this process by default. listeners: are told of every step (`training.live`). Raises
    Interrupted if nobody is left to compute products, or results cannot be written: then the same call goes on from the last
    checkpoint.

    A run that diverges is a result: its rows up to then are kept, the rest is marked `failed`. A run of an encrypting
    backend that counted no encrypted product raises RuntimeError: its label would be false.
    """
    started = Start()
    start = time.perf_counter()
    run = prepare(spec, checkpoints, place)
    run.live = Live(listeners)
    facts: dict = {}
    failure = None
    try:
        if run.session is None:
            facts = train_elsewhere(run)
        else:
            train(run)
    except FloatingPointError as error:
        failure = str(error)
        run.recorder.add("loss", None, "nats", phase="eval", step=spec.steps, status="failed")
    finally:
        run.live.close()
    seconds = time.perf_counter() - start
    add_run_rows(run, seconds, facts, failed=failure is not None)
    run.recorder.add_shares(started.cpu_shares())
    check_labels(run, facts)
    try:
        _write_adapter(run, out.parent / "adapter")
        write_sidecar(out.parent / "sidecar.json", sidecar(run, started, facts, failure, seconds))
        run.recorder.write(out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Interrupted(f"cannot write the results to {out.parent}: {reason}; run again when that is solved") from None
    run.checkpoint.remove()
    if run.session is not None:
        run.session.close()
    return failure is None


def _write_adapter(run: Run, directory: Path) -> None:
    """The adapter in place of whatever was there, all or nothing."""
    with atomic_directory(directory) as temporary:
        run.model.save_pretrained(temporary, save_embedding_layers=False)


def train_elsewhere(run: Run) -> dict:
    """Facts from a backend that trains with its own loop, on the same batches, adapter, optimizer and schedule."""
    backend = load_object(BACKENDS[run.spec.backend].path)(device=run.spec.device)

    def batch(i: int) -> dict:
        return to_tensors(run.batch(i))

    def on_step(step, loss, grad_norm, learning_rate, step_time_s):
        run.train_tokens += int(batch(step - 1)["attention_mask"].sum())
        record_step(run, loss, grad_norm, learning_rate, step_time_s)

    run.live.start(run)
    if run.eval_encoded:
        evaluate(run, ends=False)
    try:
        return backend.train(run.model, batch, run.optimizer, run.scheduler, run.spec, on_step)
    finally:
        run.recorder.relabel(backend.labels)


def add_run_rows(run: Run, seconds: float, facts: dict, failed: bool) -> None:
    """Rows about the run as a whole: products, bytes, times of operations, noise, memory."""

    def add(metric, value, unit=""):
        run.recorder.add(metric, value, unit, phase="run", status="failed" if failed else "ok")

    if run.session is not None:
        _add_session_rows(run.session, add)
        _add_network_rows(run.session, add)
        _add_overflow_rows(run, failed)
    for metric, (value, unit) in facts.items():
        add(metric, value, unit)
    if run.exact_match_by_guessing is not None:
        add("exact_match_by_guessing", run.exact_match_by_guessing, "fraction")
    add("requested_steps", run.spec.steps)
    add("train_tokens", run.train_tokens, "tokens")
    add("step_tokens", (run.spec.batch_size + run.spec.rehearsed_rows) * run.spec.sequence_length, "tokens")
    add("blocks", run.model.config.num_hidden_layers)
    add("model_blocks", run.model_blocks)
    add("share_inputs", int(run.spec.share_inputs))
    add("recompute", int(run.spec.recompute))
    add("count_padding", int(run.spec.count_padding))
    add("sgd", int(isinstance(run.optimizer, torch.optim.SGD)))
    add("lora_rank", run.spec.lora_rank)
    add("train_time_s", run.seconds, "s")
    add("total_time_s", seconds, "s")
    add("peak_memory_bytes", peak_memory_bytes(), "B")


def _add_session_rows(session, add) -> None:
    counters, timings = session.counters, session.timings
    add("remote_matmuls", counters.products)
    add("encrypted_matmuls", counters.encrypted_products)
    add("remote_rows", timings.remote_rows)
    add("upload_ciphertext_bytes", counters.upload_ciphertext_bytes, "B")
    add("download_ciphertext_bytes", counters.download_ciphertext_bytes, "B")
    add("public_material_bytes", session.public_material_bytes, "B")
    add("client_quantize_time_s", timings.quantize_s, "s")
    add("encrypt_time_s", timings.encrypt_s, "s")
    add("matmul_time_s", timings.matmul_s, "s")
    add("decrypt_time_s", timings.decrypt_s, "s")
    if timings.offline_s:
        add("offline_time_s", timings.offline_s, "s")
    for metric, (value, unit) in session.backend.metrics(session.keys).items():
        add(metric, value, unit)
    if timings.backward_rows:
        add("zero_gradient_rows", timings.zero_backward_rows / timings.backward_rows, "fraction")
    if session.products:
        add("security_bits", min(p.plan.security_bits for p in session.products), "bits")
    for name, unit in (("ring_size", ""), ("log2_q", "bits"), ("failure_log2", "log2 of a probability")):
        values = [p.plan.parameters[name] for p in session.products if p.plan.parameters.get(name) is not None]
        if values:
            add(f"largest_{name}", max(values), unit)
    if session.noise.count:
        add("accumulator_noise_std", session.noise.std, "units")
        add("accumulator_noise_max", session.noise.largest, "units")
        add("accumulator_noise_samples", session.noise.count)


def _add_overflow_rows(run: Run, failed: bool) -> None:
    """For each kind of product whose sums may wrap around: bits of the worst case, outputs compared, and those that did."""
    session, status = run.session, "failed" if failed else "ok"
    for kind, checked in session.overflow.checked.items():
        layer, phase = kind.rsplit(" ", 1)
        plans = [product.plan for product in session.products if kind_of(product.name) == kind]
        worst = max(plan.parameters["accumulator_bits"] for plan in plans)
        counted = {"accumulator_bits": (worst, "bits"), "checked_outputs": (checked, "")}
        counted["wrapped_outputs"] = session.overflow.wrapped[kind], ""
        for metric, (value, unit) in counted.items():
            run.recorder.add(metric, value, unit, phase=phase, status=status, layer=layer, inputs=plans[0].inputs)


def _add_network_rows(session, add) -> None:
    """What crossed a network, if anything did."""
    counters, timings = session.counters, session.timings
    if not counters.round_trips:
        return
    add("round_trips", counters.round_trips)
    add("retries", counters.retries)
    add("rejected_answers", counters.rejected_answers)
    add("sent_bytes", counters.sent_bytes, "B")
    add("received_bytes", counters.received_bytes, "B")
    for metric, (value, unit) in session.place.metrics().items():
        add(metric, value, unit)
    add("wait_time_s", timings.wait_s, "s")
    add("verify_time_s", timings.verify_s, "s")


def check_labels(run: Run, facts: dict) -> None:
    """Nothing; raises RuntimeError if a run labelled as encrypted did not encrypt."""
    counted = run.session.counters.encrypted_products if run.session else facts.get("encrypted_matmuls", (0, ""))[0]
    check_encrypted(run.spec, counted)


def sidecar(run: Run, started: Start, facts: dict, failure: str | None, seconds: float) -> dict:
    """What the numbers of the run depend on, and what they depended on this time."""
    spec, products = run.spec, run.session.products if run.session else []
    return {
        "spec": spec.to_dict(),
        "spec_digest": spec.digest(),
        "environment": started.environment(),
        "torch_threads": torch.get_num_threads(),
        "model_hash": model_hash(spec.model, spec.revision),
        "data_sha256": data_sha256(run),
        "data": run.data_report,
        "failure": failure,
        "seconds": seconds,
        "facts": facts,
        "place": run.session.place.report() if run.session else {},
        "counters": asdict(run.session.counters) if run.session else {},
        "exactness": exactness(run.session) if run.session else {},
        "backend": run.session.backend.report() if run.session else {},
        "memory": hardening(),
        "layers": {p.name: p.plan.report() for p in products},
    }


def data_sha256(run: Run) -> str | None:
    """Over all rows; None of private data, about which a digest would confirm to its reader what he guesses."""
    if not DATASETS[run.spec.data].is_public and run.spec.data != "random_tokens":
        return None
    digest = hashlib.sha256()
    rehearsed = run.rehearsal.encoded.values() if run.rehearsal else ()
    for array in itertools.chain(run.batches.encoded.values(), rehearsed, run.eval_encoded.values()):
        digest.update(array.tobytes())
    return digest.hexdigest()
