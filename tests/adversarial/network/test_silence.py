"""What a liar gets to see, and what is sent again; a run that meets one has the same losses, or stops and can go on."""

from __future__ import annotations

import itertools
import random

import grpc
import numpy as np
import pytest
from liars import asked_of, asker_of, flips_any_bit, liar_and_honest, lying, rows, truth, two_layers, zeros
from slow_tests import slow
from small_run import address_of, one_sentence, place_of, the_checkpoint, trained

from private_lora.backends import load
from private_lora.backends.packed import exact as packed
from private_lora.backends.packed import session
from private_lora.core.errors import Interrupted
from private_lora.crypto.pads import Pad
from private_lora.network.client import connection as connection_module
from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking
from private_lora.network.client.workers import Patience
from private_lora.network.worker.limits import Refusal
from private_lora.network.worker.service import WorkerService
from private_lora.network.worker.sessions import ClientSession
from private_lora.specs.worker import WorkerSpec


@pytest.fixture
def recorded(monkeypatch):
    """Everything that reaches a worker: by service, its method, what the message says, and how the call ended."""
    seen = []

    def note(service, method, what, context):
        agent = [key for key, _ in context.invocation_metadata()]
        entry = [id(service), method, what, agent, None]
        seen.append(entry)
        context.add_callback(lambda: entry.__setitem__(4, context.code()))

    def unary(method):
        original = getattr(WorkerService, method)

        def wrapped(self, request, context):
            note(self, method, str(request) if method == "Open" else "", context)
            return original(self, request, context)

        monkeypatch.setattr(WorkerService, method, wrapped)

    original = WorkerService.Multiply

    def multiply(self, parts, context):
        what = []

        def watched():
            for part in parts:
                header = part.header
                what.append((header.product, header.size, len(header.request_id), len(part.data)))
                yield part
            what.append("end")

        note(self, "Multiply", what, context)
        yield from original(self, watched(), context)
        what.append("all taken")

    unary("Open")
    unary("Close")
    monkeypatch.setattr(WorkerService, "Multiply", multiply)

    def of(running):
        return [tuple(entry[1:]) for entry in seen if entry[0] == id(running.service)]

    return of


def test_a_liar_sees_what_an_honest_worker_sees(local_worker, recorded):
    """Until it is asked no more; and then it hears the same goodbye."""
    answers = iter([truth, truth, zeros])
    with (
        liar_and_honest(local_worker, lambda *message: next(answers)(*message)) as (liar, other),
        local_worker(two_layers()) as honest,
    ):
        for workers in ((liar, other), (honest,)):
            with asker_of(workers) as asker:
                for seed in range(5):
                    asker.ask(rows(seed))
                assert list(asker.dropped) == ([str(address_of(liar))] if len(workers) == 2 else [])
        told, usual = recorded(liar), recorded(honest)
        assert [method for method, *_ in told] == ["Open", "Multiply", "Multiply", "Multiply", "Close"]
        assert [method for method, *_ in usual] == ["Open"] + ["Multiply"] * 5 + ["Close"]
        assert told == usual[:4] + usual[-1:]
        assert told[1][1][-2:] == ["end", "all taken"]


@pytest.fixture
def questions(monkeypatch):
    """Request id and bytes of every question that reaches a worker of this process."""
    sent, original = [], ClientSession.note

    def note(self, request_id, data, repeats):
        sent.append((request_id, bytes(data)))
        return original(self, request_id, data, repeats)

    monkeypatch.setattr(ClientSession, "note", note)
    return sent


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_no_mask_or_secret_is_used_twice_and_only_the_same_bytes_are_sent_again(mask, questions, local_worker, monkeypatch):
    secrets, original, slots, take = [], packed.fresh_secrets, [], Pad.take

    def fresh_secrets(*arguments):
        drawn = original(*arguments)
        secrets.append(drawn.copy())  # the client wipes its own
        return drawn

    def taken(pad, count):
        slots.append((pad, take(pad, count)))
        return slots[-1][1]

    for module in (packed, session):
        monkeypatch.setattr(module, "fresh_secrets", fresh_secrets)
    monkeypatch.setattr(Pad, "take", taken)
    monkeypatch.setattr(connection_module, "REST_S", 0.0)  # those who could not answer are asked again at once
    chance, lie = random.Random(4), flips_any_bit(random.Random(5))

    def moody(question, answer):
        if chance.random() < 0.3:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "not now")
        return lie(question, answer) if chance.random() < 0.5 else answer

    with (
        local_worker(lying(two_layers(mask), moody)) as first,
        local_worker(lying(two_layers(mask), moody)) as second,
        local_worker(two_layers(mask)) as third,
    ):
        asking = Asking(rows_per_question=16)
        with asker_of([first, second, third], asking, Patience(30, 30), mask) as asker:
            for seed in range(30):
                assert (asker.ask(rows(seed, 40)) == rows(seed, 40) @ asker.weight).all()
                asker.forgive()
            counters = asker.place.counters
    assert counters.retries > 5
    assert counters.rejected_answers > 5
    by_id = {}
    for request_id, data in questions:
        by_id.setdefault(request_id, set()).add(data)
    assert all(len(versions) == 1 for versions in by_id.values())
    distinct = {data for _, data in questions}
    assert len(questions) == counters.round_trips + counters.retries > len(distinct)
    asked = [packed.message_from_bytes(data) for data in distinct]
    count = 90 + counters.rejected_answers
    assert len({q.question_id for q in asked}) == len(distinct) == count
    drawn = [secret.tobytes() for some in secrets for secret in some]
    if mask == "fresh":
        assert len({q.mask_seed for q in asked}) == len(drawn) == len(set(drawn)) == count
    else:
        # Rows of all questions, repeated ones too, in slots of their own; a secret makes a pad of them.
        used = [(id(pad), slot) for pad, some in slots for slot in range(some.start, some.stop)]
        assert len({q.digits.tobytes() for q in asked}) == count
        assert len(used) == len(set(used)) == sum(q.digits.shape[1] for q in asked)
        assert len(drawn) == len(set(drawn)) == len({id(pad) for pad, _ in slots})


@pytest.mark.parametrize("name", ["packed", slow("glwe")])
def test_the_same_question_has_the_same_answer_whenever_and_whoever_is_asked(name, tiny_llama_directory, local_worker):
    spec = WorkerSpec(model=str(tiny_llama_directory), backend=name, layers="0", activation_bits=7, weight_bits=7)
    with local_worker(spec) as one, local_worker(spec) as other:
        product = one.service.held.products["model.layers.0.mlp.down_proj forward"]
        client = load(name).client(product.server.plan)
        client.prepare(np.ones((product.server.plan.inputs, product.server.plan.outputs), np.int64))
        message = client.encrypt(np.random.default_rng(0).integers(-64, 64, (1, product.server.plan.inputs)))
        question, request_id, answers = message.to_bytes(), Connection.new_request_id(), []
        for running in (one, one, other):
            connection = Connection(address_of(running), None)
            connection.open()
            connection.send_material(client.public_material, 60)
            largest = client.largest_answer(1)
            answers += [connection.multiply(product.name, request_id, question, 1, 60, largest)[0] for _ in range(2)]
            assert connection.multiply(product.name, Connection.new_request_id(), question, 1, 60, largest)[0] == answers[0]
            connection.close()
        assert len({bytes(answer) for answer in answers}) == 1
        y = client.decrypt(load(name).ciphertext_from_bytes(bytes(answers[0])))
        assert y.shape == (1, product.server.plan.outputs)


def lies_from(number):
    """Honest until question `number`."""
    count = itertools.count(1)
    return lambda question, answer: zeros(question, answer) if next(count) >= number else answer


def test_a_run_goes_on_with_another_worker_and_the_same_losses(small_spec, small_held, whole, local_worker, caplog, tmp_path):
    with local_worker(lying(small_held, lies_from(27))) as liar, local_worker(lying(small_held, truth)) as honest:
        with place_of([address_of(liar), address_of(honest)]) as place:
            assert trained(small_spec, tmp_path, place)[1] == whole
            assert place.counters.rejected_answers == 1
            assert place.counters.round_trips == asked_of(liar) + asked_of(honest)
        assert asked_of(liar) == 27
    (message,) = [message for message in caplog.messages if "dropped" in message]
    assert all(part in message for part in (str(address_of(liar)), "is wrong (Freivalds' check)", "model.layers."))


def test_a_run_without_another_worker_stops_and_goes_on_later(small_spec, small_held, whole, local_worker, tmp_path):
    with local_worker(lying(small_held, lies_from(27))) as liar:
        with place_of([address_of(liar)]) as place, pytest.raises(Interrupted) as caught:
            trained(small_spec, tmp_path, place)
        one_sentence(caught.value, "no worker is left for layer model.layers.", str(address_of(liar)), "is wrong")
        assert asked_of(liar) == 27
    state = the_checkpoint(tmp_path)
    assert [str(loss) for loss in state["losses"]] == whole.losses[:1]
    with local_worker(lying(small_held, truth)) as honest, place_of([address_of(honest)]) as place:
        _, result = trained(small_spec, tmp_path, place)
        assert place.counters.rejected_answers == 0
    assert (result.losses, result.held_out) == (whole.losses, whole.held_out)
    assert result.optimizer_steps == whole.optimizer_steps
