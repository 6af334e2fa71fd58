"""A peft model made private: its frozen linear layers at a backend, in this process or at workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from private_lora.api.layers import Layers, exchange, layers_of
from private_lora.api.session import PrivateSession, close_place
from private_lora.backends import load as load_backend
from private_lora.core.errors import UserError
from private_lora.core.memory import give_back_memory
from private_lora.core.openmp import warn_if_threads_spin
from private_lora.results.provenance import Start
from private_lora.specs.backends import BACKENDS
from private_lora.specs.options import HINTS_VARIABLE
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS
from private_lora.specs.split import SplitSpec
from private_lora.specs.worker import check_remote
from private_lora.split.linear import split_layers
from private_lora.split.place import InProcess, Place
from private_lora.split.session import Session
from private_lora.training.preparation import quantization_of


def make_private(
    peft_model: nn.Module,
    backend: str = "packed",
    bits: int = 8,
    workers: Sequence[str] = (),
    *,
    model: str | None = None,
    revision: str | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    worker_ca: str | Path | None = None,
    plaintext: bool = False,
    activation_quantizer: str = "dynamic_per_token",
    weight_quantizer: str = "static_per_channel",
    share_inputs: bool = True,
    backend_options: dict[str, Any] | None = None,
    device: str = "cpu",
    hints: str | Path | None = None,
    check_answers: bool = True,
    on_lie: str = "drop",
    caught: str | Path | None = None,
    rows_per_question: int | None = None,
    deadline_s: float = 600.0,
    patience_s: float = 300.0,
) -> PrivateSession:
    """The session of a peft LoRA model whose frozen linear layers are computed elsewhere from now on; changes it in place.

    All frozen linear layers but the output head become remote, whether LoRA adapts them or not: torch Linear and GPT-2's
    Conv1D, forward and backward. Embedding, norms, attention, head, adapter, loss and optimizer stay. The model is trained,
    saved (`save_pretrained`: the adapter) and resumed as before; its frozen weights are gone, so it cannot be merged.

    backend: who multiplies; `packed` and `packed_approx` encrypt, `integer` and `float` show what they should come to.
    bits: of activations and weights alike; `float` has none.
    workers: `host:port` each; without any, products are computed in this process.
    model: directory, built-in name or hub id that the workers hold, compared in the handshake by the hash of its files; by
    default what transformers loaded. revision: of a hub id.
    tls_cert, tls_key, worker_ca: PEM files, as of `private-lora finetune`. plaintext: none, on loopback addresses only.
    share_inputs: layers with the same input (q, k, v; gate, up) are one remote call. device: of products in this process.
    hints: directory where `packed` keeps products of its masks with the weights for the next session; default: memory.
    check_answers: Freivalds' check of workers' answers. on_lie: at a wrong one, `drop` the worker or `stop`. caught: file that
    remembers workers that lied, to be given again when a run is resumed. rows_per_question: most rows that are sent at a time.
    deadline_s, patience_s: longest wait for one answer, and for any worker.

    Import private_lora before torch, whose idle threads it puts to sleep: a warning says where that comes too late.
    Raises UserError, one sentence, on a model, setting or worker that does not fit; the model is then as it was.
    """
    started = Start()
    warn_if_threads_spin()
    layers = layers_of(peft_model)
    bits = bits if backend not in BACKENDS or BACKENDS[backend].quantized else None
    spec = SplitSpec(
        model=str(model or peft_model.get_base_model().name_or_path),
        revision=revision if model else getattr(peft_model.config, "_commit_hash", None),
        backend=backend,
        backend_options=backend_options or {},
        device=device,
        activation_quantizer=activation_quantizer,
        weight_quantizer=weight_quantizer,
        activation_bits=bits,
        weight_bits=bits,
        share_inputs=share_inputs,
    )
    _check_quantizer(spec)
    tls = tls_cert, tls_key, worker_ca
    asking, patience, lies = (check_answers, rows_per_question), (deadline_s, patience_s), (caught, on_lie)
    place = _workers_place(spec, workers, tls, plaintext, asking, patience, lies)
    with _hints_in(hints):
        return _made(peft_model, layers, spec, place, started)


def _made(peft_model: nn.Module, layers: Layers, spec: SplitSpec, place: Place, started: Start) -> PrivateSession:
    """The session; nothing of the model is changed before everything else has worked."""
    try:
        session = Session(load_backend(spec.backend, spec.device, **spec.backend_options), quantization_of(spec), place=place)
        split = dict(split_layers(layers.remote, session, spec.share_inputs, layers.weight))
        place.connect(spec)
    except BaseException:
        close_place(place)
        raise
    made = PrivateSession(spec, session, layers, started)
    exchange(peft_model, split)
    layers.remote.clear()
    give_back_memory()
    return made


def _check_quantizer(spec: SplitSpec) -> None:
    if ACTIVATION_QUANTIZERS[spec.activation_quantizer].calibrated and spec.activation_bits is not None:
        raise UserError(
            f"activation_quantizer {spec.activation_quantizer} is calibrated before a run, which a script's model is not: "
            "take a dynamic one"
        )


def _workers_place(spec: SplitSpec, workers, tls, plaintext: bool, asking, patience, lies) -> Place:
    """Connections to the workers, or this process without any."""
    if isinstance(workers, str):
        raise UserError(f"workers must be a list of addresses, not one text: [{workers!r}]")
    if not workers:
        return InProcess()
    check_remote(spec.backend)
    if not spec.model:
        raise UserError("nothing says where this model was loaded from: give model=, the directory or hub id that workers hold")
    if asking[1] is not None and asking[1] < 1:
        raise UserError("rows_per_question must be at least 1")
    if lies[1] not in ("drop", "stop"):
        raise UserError(f"on_lie must be 'drop' or 'stop', not {lies[1]!r}")
    from private_lora.network.client.caught import Caught
    from private_lora.network.client.connection import Connection
    from private_lora.network.client.remote import Asking, RemotePlace
    from private_lora.network.client.workers import Patience, Workers
    from private_lora.network.wire.security import Address

    files = _tls(tls, plaintext)
    connections = [Connection(address, files) for address in [Address.parse(text) for text in workers]]
    caught = Caught(Path(lies[0]) if lies[0] else None)
    return RemotePlace(Workers(connections, Patience(*patience), caught, lies[1] == "stop"), Asking(*asking))


def _tls(files: tuple, plaintext: bool):
    """Certificates, or None for plain text that was asked for by name."""
    from private_lora.network.wire.security import Tls

    given = [file for file in files if file]
    if plaintext and given:
        raise UserError("plaintext=True and certificates exclude each other: leave one out")
    if plaintext:
        return None
    if len(given) < len(files):
        raise UserError("workers need tls_cert, tls_key and worker_ca, or plaintext=True on loopback addresses")
    return Tls(*map(Path, files))


@contextmanager
def _hints_in(directory: str | Path | None) -> Iterator[None]:
    """Let `packed` keep hints in a directory, if one is given."""
    before = os.environ.get(HINTS_VARIABLE)
    if directory is not None:
        os.environ[HINTS_VARIABLE] = str(directory)
    try:
        yield
    finally:
        if directory is not None:
            os.environ.pop(HINTS_VARIABLE)
            if before is not None:
                os.environ[HINTS_VARIABLE] = before
