"""What a worker says that it did decides nothing: labels and bytes are what the client encrypted, decrypted and checked."""

from __future__ import annotations

import math

import pytest
from liars import LAYER, asker_of, rows, two_layers

from private_lora.backends import load
from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.security import Address
from private_lora.network.worker import service as service_module
from private_lora.training.preparation import prepare
from private_lora.training.run import check_labels

NOTHING = {"products": 0, "encrypted_products": 0, "int8_operations": 0, "seconds": 0.0}
ABSURD = {"products": 2**64 - 1, "encrypted_products": 2**64 - 1, "int8_operations": 2**63, "seconds": math.inf}
CLAIMS = [NOTHING, ABSURD, ABSURD | {"seconds": math.nan}, ABSURD | {"seconds": -1e308}]


@pytest.fixture(params=CLAIMS, ids=["nothing", "absurd", "nan", "negative"])
def claims(request, monkeypatch):
    """Every worker of this process says this of its work."""
    honest = service_module.parts_of
    work = messages.Work(**request.param)
    monkeypatch.setattr(service_module, "parts_of", lambda answer, **_: honest(answer, work=work))
    return request.param


def test_claims_change_no_counter(claims, local_worker):
    with local_worker(two_layers()) as running, asker_of([running], Asking(rows_per_question=16)) as asker:
        x = rows(0, 40)
        product = asker.place.product(asker.client, asker.server, x)
        assert (product.y == x @ asker.weight).all()
        counters = asker.server.counters
        assert (counters.products, counters.encrypted_products, counters.encrypted_questions) == (3, 3, 3)
        assert (counters.verified_rows, counters.unverified_rows, counters.int8_operations) == (40, 0, 0)
        assert product.upload_bytes > 0 and product.download_bytes > 0
        assert 0 <= product.matmul_s < 60 and product.int8_operations == 0
        reported = asker.place.report()["reported_by_workers"]
        assert reported == {name: 3 * claims[name] for name in reported}


def test_answers_without_a_check_are_counted_as_such(local_worker):
    with local_worker(two_layers()) as running, asker_of([running], Asking(check_answers=False)) as asker:
        asker.ask(rows(0, 40))
        assert (asker.server.counters.verified_rows, asker.server.counters.unverified_rows) == (0, 40)
        assert asker.place.report()["checks"] == {"none": 1}


@pytest.mark.parametrize("backend", ["integer", "float"])
def test_a_place_that_sends_plaintext_is_never_labelled_encrypted(backend, claims, make_spec, local_worker, tmp_path):
    from private_lora.network.worker.held import hold
    from private_lora.specs.worker import WorkerSpec

    spec = make_spec(backend=backend, steps=1, eval_examples=0)
    held = hold(
        WorkerSpec(model=spec.model, backend=backend, activation_bits=spec.activation_bits, weight_bits=spec.weight_bits)
    )
    with local_worker(held) as running:
        place = RemotePlace(Workers([Connection(Address("127.0.0.1", running.port), None)], Patience(60, 10)), Asking())
        run = prepare(spec, tmp_path, place)
        product = run.session.products[0]
        columns = product.plan.inputs
        product(rows(0, 8)[:, :columns].astype("float32") if columns <= 40 else wide(columns))
        counters = run.session.counters
        assert counters.products == 1
        assert counters.encrypted_products == counters.encrypted_questions == 0
        assert counters.upload_ciphertext_bytes == counters.download_ciphertext_bytes == 0
        object.__setattr__(run.spec, "backend", "packed")  # what it would have to be called for the label
        with pytest.raises(RuntimeError, match="counted no encrypted product"):
            check_labels(run, {})
        place.close()


def wide(columns):
    import numpy as np

    return np.random.default_rng(0).standard_normal((8, columns)).astype(np.float32)


def test_only_a_class_that_says_so_is_a_ciphertext():
    from private_lora.backends.contract import ClearMessage, is_ciphertext

    class Pretender:
        byte_count = 10

        def __init__(self):
            self.IS_CIPHERTEXT = True  # of the object, which bytes from elsewhere could set

    assert not is_ciphertext(Pretender())
    assert not is_ciphertext(ClearMessage(rows(0)))
    held = two_layers()
    server = held.products[LAYER].server
    client = load("packed").client(server.plan)
    weight = rows(0, server.plan.inputs)[:, : server.plan.outputs]
    assert is_ciphertext(client.prepare(weight.astype("int8")).encrypt(rows(0, 2)))
