"""Training through workers is training in process: for every backend that can be remote, over TLS, whole and in shards."""

import gc
import logging
import types

import grpc
import numpy as np
import pytest
import torch
from slow_tests import slow, slow_but

from private_lora.backends import load
from private_lora.core.errors import Interrupted, UserError
from private_lora.network.client.connection import Connection, ask_health
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.protocol_pb2_grpc import WorkerStub
from private_lora.network.wire.security import Address, Tls, check_plaintext, tls_or_plaintext
from private_lora.network.wire.settings import PROTOCOL_VERSION
from private_lora.network.worker import server as worker
from private_lora.network.worker.held import hold
from private_lora.network.worker.limits import Limits
from private_lora.specs.backends import BACKENDS
from private_lora.specs.worker import WorkerSpec
from private_lora.training.loop import train
from private_lora.training.preparation import prepare

REMOTE = [name for name, entry in BACKENDS.items() if entry.kind == "matmul" and entry.basis != "simulated"]
LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def workers_of():
    """A function that starts workers for a spec, in threads of this process, and gives the place that asks them."""
    running, places = [], []

    def start(spec, layers=("",), tls=(None, None), asking=None, patience=None, limits=None):
        for blocks in layers:
            held = hold(worker_spec(spec, blocks))
            running.append(worker.start(held, LOOPBACK, tls[0], limits or Limits()))
        addresses = [Address("127.0.0.1", r.port) for r in running[-len(layers) :]]
        connections = [Connection(address, tls[1]) for address in addresses]
        places.append(RemotePlace(Workers(connections, patience or Patience(30, 5)), asking or Asking()))
        return places[-1], running[-len(layers) :]

    yield start
    for place in places:
        place.close()
    for one in running:
        one.stop(0)


def worker_spec(spec, layers="", **changes):
    names = (
        "model",
        "backend",
        "weights",
        "seed",
        "blocks",
        "activation_bits",
        "weight_bits",
        "weight_quantizer",
        "constant_rows",
    )
    values = {name: getattr(spec, name) for name in names} | {"layers": layers, "share_inputs": spec.share_inputs}
    return WorkerSpec(**values | {"backend_options": spec.backend_options} | changes)


def trained(spec, directory, place=None):
    run = prepare(spec, directory, place)
    train(run)
    evaluated = [row["value"] for row in run.recorder.rows if row["phase"] == "eval"]
    return run, run.losses, evaluated


def small(make_spec, name):
    """A run that the slowest backend, milliseconds for every output value, can afford."""
    if name == "glwe":
        short = {"data": "codebase", "data_options": {"chunk_characters": 4}, "sequence_length": 3, "eval_examples": 0}
        return make_spec(
            backend=name, blocks=1, steps=1, warmup_steps=0, batch_size=1, activation_bits=7, weight_bits=7, **short
        )
    return make_spec(backend=name, steps=3)


@pytest.mark.parametrize("name", slow_but(("packed", "packed_approx"), REMOTE))
def test_a_run_through_a_worker_is_the_run_in_process(name, make_spec, workers_of, tmp_path):
    spec = small(make_spec, name)
    place, running = workers_of(spec)
    remote, losses, evaluated = trained(spec, tmp_path / "remote", place)
    local, local_losses, local_evaluated = trained(spec, tmp_path / "local")
    exact = all(p.plan.exact for p in local.session.products) or name == "float"
    if exact:
        assert losses == local_losses
        assert evaluated == local_evaluated
    else:
        assert losses == pytest.approx(local_losses, abs=0.5)  # one layer's noise moves a loss of 7 nats by hundredths
    counters = remote.session.counters
    assert counters.products == local.session.counters.products == counters.round_trips > 0
    assert counters.encrypted_products == local.session.counters.encrypted_products
    assert (counters.encrypted_products > 0) == BACKENDS[name].encrypted
    assert counters.retries == counters.rejected_answers == 0
    assert counters.upload_ciphertext_bytes == local.session.counters.upload_ciphertext_bytes
    assert counters.sent_bytes > counters.upload_ciphertext_bytes
    assert running[0].service.budget.bytes == running[0].service.budget.requests == 0


@pytest.mark.parametrize(
    ("layers", "rows"),
    [slow(("",), None), slow(("0", "1"), None), (("0", "1", "0"), 17), slow(("0", "1", "0-1"), 40)],
    ids=str,
)
def test_shards_replicas_and_parts_of_batches_change_no_bit(layers, rows, make_spec, workers_of, tmp_path):
    spec = make_spec(backend="packed", steps=3)
    place, running = workers_of(spec, layers, asking=Asking(rows_per_question=rows))
    _, losses, evaluated = trained(spec, tmp_path / "remote", place)
    _, local_losses, local_evaluated = trained(spec, tmp_path / "local")
    assert losses == local_losses
    assert evaluated == local_evaluated
    assert all(asked_of(one) > 0 for one in running)


def asked_of(running):
    return sum(p.server.counters.products for p in running.service.held.products.values())


@pytest.fixture(scope="module")
def tls_pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates") / "set"
    make_certificates(directory, [])

    def files(name, authority):
        return Tls(directory / f"{name}.pem", directory / f"{name}-key.pem", directory / f"{authority}.pem")

    return files("worker", "client-ca"), files("client", "worker-ca")


def test_the_same_over_mutual_tls(make_spec, workers_of, tls_pair, tmp_path):
    spec = make_spec(backend="packed", steps=2, eval_examples=0)
    place, running = workers_of(spec, ("0", "1"), tls_pair)
    _, losses, _ = trained(spec, tmp_path / "remote", place)
    assert losses == trained(spec, tmp_path / "local")[1]
    assert place.report()["tls"]
    assert ask_health(Address("127.0.0.1", running[0].port), tls_pair[1]) == "SERVING"


def test_strangers_are_refused_on_both_sides(make_spec, workers_of, tls_pair, tmp_path):
    spec = make_spec(backend="packed", steps=1, eval_examples=0)
    make_certificates(tmp_path / "stranger", [])
    own, theirs = tls_pair[1], tmp_path / "stranger"
    _, running = workers_of(spec, ("",), tls_pair)
    address = Address("127.0.0.1", running[0].port)
    stranger = Tls(theirs / "client.pem", theirs / "client-key.pem", own.authority)
    for tls in (stranger, None):
        place = RemotePlace(Workers([Connection(address, tls)], Patience(2, 0.5)), Asking())
        with pytest.raises(Interrupted, match="no worker for layer"):
            prepare(spec, tmp_path, place)
        place.close()
    place = RemotePlace(
        Workers([Connection(address, Tls(own.certificate, own.key, theirs / "worker-ca.pem"))], Patience()), Asking()
    )
    with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
        prepare(spec, tmp_path, place)
    place.close()
    of_a_worker = Tls(tls_pair[0].certificate, tls_pair[0].key, own.authority)
    place = RemotePlace(Workers([Connection(address, of_a_worker)], Patience()), Asking())
    with pytest.raises(UserError, match="is not for clients"):  # here already, and by the worker if another client tries
        prepare(spec, tmp_path, place)
    place.close()
    credentials = grpc.ssl_channel_credentials(*of_a_worker.read())
    with grpc.secure_channel(str(address), credentials) as channel, pytest.raises(grpc.RpcError) as caught:
        WorkerStub(channel).Open(messages.Hello(protocol_version=PROTOCOL_VERSION), timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert len(running[0].service.sessions) == 0
    assert asked_of(running[0]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_bits": 4}, r"has weight bits 4 where this run has 8: start it with the run's --weight-bits"),
        ({"activation_bits": 7}, r"has activation bits 7 where this run has 8"),
        ({"backend": "integer"}, r"has backend 'integer' where this run has 'packed'"),
        ({"backend_options": {"security": "chaloy21_quantum"}}, r"quantum.*where this run has"),
        ({"share_inputs": False}, r"has share inputs False where this run has True"),
        ({"constant_rows": "reference"}, r"has constant rows 'reference' where this run has 'exact'"),
        ({"weights": "random"}, r"random weights of seed 0' where this run has 'sha256:"),
        ({"layers": "1"}, r"no worker holds layer model\.layers\.0\.self_attn"),
    ],
)
def test_a_mismatch_stops_before_any_ciphertext(changes, message, make_spec, workers_of, tmp_path):
    spec = make_spec(backend="packed")
    held = hold(worker_spec(spec, **changes))
    one = worker.start(held, LOOPBACK, None, Limits())
    place = RemotePlace(Workers([Connection(Address("127.0.0.1", one.port), None)], Patience(30, 1)), Asking())
    with pytest.raises(UserError, match=message) as caught:
        prepare(spec, tmp_path, place)
    assert "\n" not in str(caught.value)
    place.close()
    one.stop(0)
    assert one.service.metrics.registry.get_sample_value("private_lora_worker_received_bytes_total") == 0
    assert asked_of(one) == 0


def test_static_ranges_need_the_weights_and_are_refused(make_spec, workers_of, tmp_path):
    spec = make_spec(backend="packed", activation_quantizer="static_per_tensor", weight_quantizer="static_per_tensor")
    place, _ = workers_of(spec)
    with pytest.raises(UserError, match="workers need a dynamic quantizer"):
        prepare(spec, tmp_path, place)


@pytest.mark.parametrize("name", ["packed", slow("packed_approx"), slow("float")])
def test_the_client_holds_no_weight_of_a_linear_layer(name, make_spec, tmp_path):
    """Neither as it was, nor quantized, nor transposed: every array and tensor that this process can reach is looked at."""
    spec = make_spec(backend=name, steps=1, eval_examples=0)
    local = prepare(spec, tmp_path)
    held = hold(worker_spec(spec))
    shapes = {(p.plan.inputs, p.plan.outputs) for p in local.session.products}
    shapes |= {shape[::-1] for shape in shapes}
    one = worker.start(held, LOOPBACK, None, Limits())
    place = RemotePlace(Workers([Connection(Address("127.0.0.1", one.port), None)], Patience()), Asking())
    remote = prepare(spec, tmp_path, place)
    train(remote)
    for run, holds in ((local, True), (remote, False)):
        found = {array.shape for array in matrices_of(run) if array.shape in shapes}
        assert bool(found) == holds, found
    place.close()
    one.stop(0)


def matrices_of(run):
    """Every matrix with values that can be reached from a run, modules and other runs apart."""
    seen, waiting, found = set(), [run.model, run.session], []
    while waiting:
        thing = waiting.pop()
        skip = (types.ModuleType, types.FunctionType, type, str, bytes, logging.Logger)
        if id(thing) in seen or isinstance(thing, skip):
            continue
        seen.add(id(thing))
        # Of the frame's empty weights, all values are NaN; a weight that oneDNN packed shows none.
        if isinstance(thing, torch.Tensor) and thing.dim() == 2 and (thing.is_mkldnn or not thing.isnan().all()):
            adapter = any(thing is p for n, p in run.model.named_parameters() if "lora_" in n or "embed" in n)
            found += [] if adapter else [thing]
        if isinstance(thing, np.ndarray) and thing.ndim == 2:
            found.append(thing)
        waiting += gc.get_referents(thing)
    return found


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(UserError, match="not of the form host:port"):
        Address.parse("localhost")
    with pytest.raises(UserError, match="not a loopback address"):
        check_plaintext(Address("192.0.2.1", 1), None)
    with pytest.raises(UserError, match="--plaintext on a loopback address"):
        tls_or_plaintext("a.pem", None, None, False, "--client-ca")
    with pytest.raises(UserError, match="exclude each other"):
        tls_or_plaintext("a.pem", None, None, True, "--client-ca")
    with pytest.raises(UserError, match="cannot read"):
        Tls(tmp_path / "a", tmp_path / "b", tmp_path / "c").read()
    for host, loopback in (("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)):
        assert Address(host, 1).is_loopback == loopback
        assert Address.parse(str(Address(host, 1))) == Address(host, 1)


def test_a_port_that_is_taken_is_refused_in_one_sentence(make_spec, workers_of):
    spec = make_spec(backend="integer")
    _, running = workers_of(spec)
    with pytest.raises(UserError, match="cannot listen on 127"):
        worker.start(running[0].service.held, Address("127.0.0.1", running[0].port), None, Limits())


def test_answers_are_checked_where_their_error_is_known(make_spec, workers_of, tmp_path):
    for name, checked in (("packed", True), ("integer", True), ("packed_approx", True), ("float", False)):
        spec = make_spec(backend=name)
        place, _ = workers_of(spec)
        run = prepare(spec, tmp_path, place)
        assert all((p.server.check is not None) == checked for p in run.session.products), name
    assert load("packed").plan(np.ones((2, 2), np.int64), 8).exact
