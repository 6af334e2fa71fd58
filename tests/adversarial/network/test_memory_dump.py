"""A worker's whole memory after a run has neither a secret of the client nor a row of activations or answers in it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from process_memory import can_be_read, found_in
from raw_client import Parts, RawClient

from private_lora.backends.packed import exact as packed
from private_lora.backends.packed import session
from private_lora.crypto import pads
from private_lora.crypto.kernels import Int8Product
from private_lora.crypto.pads import Pad
from private_lora.crypto.ring import transform
from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.worker.held import hold
from private_lora.specs.worker import WorkerSpec
from private_lora.split.product import RemoteProduct
from private_lora.training.loop import train
from private_lora.training.preparation import prepare

BITS = ("--activation-bits", "8", "--weight-bits", "8")
ROWS = 3  # of each product
LEAST_VALUES = 64
LEAST_DISTINCT = 10
SECRET_COEFFICIENTS = 128


class Recorder:
    """What the client must keep to itself, as byte patterns in every form that it might be kept or sent in."""

    def __init__(self):
        self.patterns: dict[bytes, str] = {}
        self.last_rows: dict[str, np.ndarray] = {}

    def add(self, data, name: str) -> None:
        """A pattern as it is."""
        self.patterns[bytes(data)] = name

    def rows(self, matrix: np.ndarray, name: str, types=(np.int8, np.int16, np.int32, np.int64, np.float32, np.float64)):
        """Some rows that have enough different values, a column, and a corner as tiles have it, as numbers of each type."""
        varied = [row for row in matrix if len(np.unique(row[:LEAST_VALUES])) >= LEAST_DISTINCT and row.size >= LEAST_VALUES]
        pieces = [row[:LEAST_VALUES] for row in varied[:: max(1, len(varied) // ROWS)]]
        pieces += [piece for piece in (matrix[:LEAST_VALUES, 1], matrix[:4, :32].ravel()) if piece.size >= LEAST_VALUES]
        for piece in pieces:
            if len(np.unique(piece)) >= LEAST_DISTINCT:
                for kind in types:
                    self.add(piece.astype(kind).tobytes(), f"{name} as {np.dtype(kind)}")

    def secrets(self, secrets: np.ndarray) -> None:
        """Ternary coefficients at the beginning and in the middle, as numbers, digits of 1 or 2 bits, and transformed."""
        for row in secrets:
            for start in (0, row.size // 2):
                piece = row[start : start + SECRET_COEFFICIENTS]
                for values in (piece, -piece, piece + 1):
                    for kind in (np.int8, np.int16, np.int32, np.int64, np.float32, np.float64):
                        self.add(values.astype(kind).tobytes(), f"secret as {np.dtype(kind)}")
                for bits in (piece != 0, piece > 0, piece < 0):
                    for order in ("little", "big"):
                        self.add(np.packbits(bits, bitorder=order).tobytes(), "secret as bits")
                pairs = (piece.astype(np.uint8) & 3).reshape(-1, 4)
                for shifts in ((0, 2, 4, 6), (6, 4, 2, 0)):
                    self.add((pairs << np.array(shifts, np.uint8)).sum(axis=1, dtype=np.uint8).tobytes(), "secret in 2 bits")
        self.add(np.ascontiguousarray(transform(secrets)).tobytes()[:512], "secret transformed")


@pytest.fixture
def recorder(monkeypatch):
    """Records a run of this process from now on."""
    recorder = Recorder()
    draw, encrypt, call, product = packed.fresh_secrets, packed.encrypt_rows, RemoteProduct.__call__, RemotePlace.product
    make, phase_of, fresh_seed = Pad.__init__, Pad.phase, pads.fresh_seed

    def drawing(seed, *arguments):
        secrets = draw(seed, *arguments)
        recorder.add(seed, "seed of secrets")
        recorder.secrets(secrets)
        return secrets

    def encrypting(x, delta, mask_seed, secrets, error_seed, parameters):
        recorder.add(error_seed, "seed of errors")
        return encrypt(x, delta, mask_seed, secrets, error_seed, parameters)

    def seeding():
        seed = fresh_seed()
        recorder.add(seed, "seed of errors")
        return seed

    def making(pad, mask_key, inputs, secrets, parameters):
        make(pad, mask_key, inputs, secrets, parameters)
        recorder.add(pad._spectra.tobytes()[:512], "secret transformed for a module")
        for part in (pad.low, pad.high):
            recorder.rows(part[: 2 * LEAST_VALUES], "pad", (part.dtype,))

    def phasing(pad, hint, parameters):
        phase = phase_of(pad, hint, parameters)
        recorder.rows(phase[: 2 * LEAST_VALUES], "phase", (phase.dtype,))
        return phase

    def calling(remote, x):
        recorder.rows(x, "float activations", (np.float32, np.float64))
        y = call(remote, x)
        recorder.rows(y, "float answers", (np.float32, np.float64))
        return y

    def asking(place, client, server, x):
        recorder.rows(x, "activations")
        recorder.last_rows[server.name] = x.copy()
        answer = product(place, client, server, x)
        recorder.rows(answer.y, "answers", (np.int32, np.int64, np.float32, np.float64))
        return answer

    for module in (packed, session):
        monkeypatch.setattr(module, "fresh_secrets", drawing)
    monkeypatch.setattr(Pad, "__init__", making)
    monkeypatch.setattr(Pad, "phase", phasing)
    monkeypatch.setattr(pads, "fresh_seed", seeding)
    monkeypatch.setattr(packed, "encrypt_rows", encrypting)
    monkeypatch.setattr(RemoteProduct, "__call__", calling)
    monkeypatch.setattr(RemotePlace, "product", asking)
    return recorder


def trained(make_spec, backend, options, address, directory, recorder):
    """A run of a few steps through a worker."""
    place = RemotePlace(Workers([Connection(address, None)], Patience(60, 10)), Asking())
    run = prepare(make_spec(model="nano", backend=backend, backend_options=options, steps=3, eval_examples=2), directory, place)
    train(run)
    for remote in run.session.products:
        secret = remote.server.check._secret
        for row in secret:
            recorder.add(row[:16].tobytes(), "secret of the answers' check")
    place.close()
    return run


@contextmanager
def half_asked(address, product, question: bytes):
    """While the worker has read a question but for its last byte."""
    with RawClient(address) as client:
        assert client.open() is None
        parts = Parts(client.header(len(question), product), messages.Part(data=question[:-1]))
        call = client.stub.Multiply(parts, timeout=120)
        assert client.open() is None  # what came before on this connection has arrived
        yield
        call.cancel()
        parts.end()


@pytest.fixture
def dumped(worker_process, make_spec, recorder, tmp_path):
    """A function: which recorded patterns a worker of some backend has after a run, while it reads one more question."""

    def dump(backend, controls, **options):
        flags = ("--backend", backend, "--backend-options", json.dumps(options), *BITS)
        with worker_process("nano", *flags) as (process, address):
            if not can_be_read(process.pid):
                pytest.skip("the memory of another process cannot be read here")
            run = trained(make_spec, backend, options, address, tmp_path, recorder)
            product = run.session.products[0]
            x = recorder.last_rows[product.name]
            question = product.client.encrypt(x).to_bytes()
            known = controls(question)
            with half_asked(address, product.name, question):
                found, searched = found_in(process.pid, known | recorder.patterns)
            assert process.poll() is None
        assert searched > 2**26
        assert {name for pattern, name in found.items() if pattern in known} == set(known.values())
        return {name for pattern, name in found.items() if pattern not in known}

    return dump


def test_the_search_finds_every_pattern_that_is_there_and_no_other():
    generator = np.random.default_rng(0)
    there, elsewhere = ([generator.bytes(int(n)) for n in generator.choice([16, 64, 1000], 300)] for _ in range(2))
    program = "import sys; kept = sys.stdin.buffer.read(int(sys.argv[1])); print(flush=True); sys.stdin.buffer.read()"
    data = b"".join(there)
    command = [sys.executable, "-c", program, str(len(data))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(data)
        process.stdin.flush()
        process.stdout.readline()
        if not can_be_read(process.pid):
            process.kill()
            pytest.skip("the memory of another process cannot be read here")
        found, _ = found_in(process.pid, dict.fromkeys(there, "there") | dict.fromkeys(elsewhere, "elsewhere"))
        process.kill()
    assert found == dict.fromkeys(there, "there")


def own_things(name, products=("model.layers.0.self_attn.o_proj forward",)):
    """What a worker certainly has: the names of its products and rows of its weights, as its kernel keeps them."""
    held = hold(WorkerSpec(model="nano", backend=name, layers="0", activation_bits=8, weight_bits=8))
    known = {product.encode(): "a product's name" for product in products}
    for product in products:
        block = held.products[product].server._product._blocks[0]
        rows = block._weight.numpy()[:4] if isinstance(block, Int8Product) else []  # other kernels keep a layout of their own
        known |= {row[:64].tobytes(): "a weight's row" for row in rows}
    return known


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_a_worker_has_no_secret_and_no_activation_in_its_memory(mask, dumped, recorder):
    def controls(question):
        middle = len(question) // 2
        return own_things("packed") | {question[middle : middle + 64]: "a question's bodies"}

    assert dumped("packed", controls, mask=mask) == set()
    kinds = {name.split(" as ")[0] for name in recorder.patterns.values()}
    assert kinds >= {"secret", "secret in 2 bits", "secret transformed", "seed of secrets", "seed of errors", "activations"}
    if mask == "session":
        assert kinds >= {"secret transformed for a module", "pad", "phase"}
    assert kinds >= {"float activations", "float answers", "answers", "secret of the answers' check"}
    assert len(recorder.patterns) > 5000


@pytest.mark.slow
def test_the_search_finds_activations_where_nothing_is_encrypted(dumped):
    found = dumped("integer", lambda question: {})
    assert {name for name in found if name.startswith("activations as ")}
    assert not {name for name in found if "check" in name or "float" in name}
