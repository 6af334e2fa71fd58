"""A batch too large for a worker's limits goes in several questions, and no honest worker is dropped for its size."""

from __future__ import annotations

import numpy as np
import pytest
from raw_client import address_of, held_and_honest

from private_lora.network.client.connection import Connection, Unreachable
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.wire.settings import Expected
from private_lora.network.worker.limits import Limits

PRODUCT = "model.layers.0.self_attn.o_proj forward"
# As large as a question of some rows; a batch has 50 times as much.
LIMITS = Limits(message_bytes=20_000)


def test_a_batch_larger_than_a_message_is_cut_and_nobody_is_dropped(local_worker):
    held, honest = held_and_honest(PRODUCT)
    product = held.products[PRODUCT]
    with local_worker(held, LIMITS) as running:
        connection = Connection(address_of(running), None)
        workers = Workers([connection], Patience(20.0, 20.0))
        expected = {PRODUCT: Expected(PRODUCT, product.weight_sha256, product.plan)}
        workers.connect(held.settings, expected)
        most = workers.largest_rows(PRODUCT)
        assert most == LIMITS.largest_rows(product.server) < 500
        x = np.arange(500 * honest.plan.inputs, dtype=np.int64).reshape(500, -1) % 255 - 127
        questions = RemotePlace(workers, Asking())._cut(x, PRODUCT)
        assert [len(rows) for rows in questions[:-1]] == [most] * (len(questions) - 1)
        for index, rows in enumerate(questions):
            data, largest = honest.client.encrypt(rows).to_bytes(), honest.client.largest_answer(len(rows))
            answer = workers.ask(PRODUCT, data, len(rows), index, lambda: None, largest).data
            assert honest.is_right(rows, bytes(answer))
        data = honest.client.encrypt(x).to_bytes()
        with pytest.raises(Unreachable, match=f"{most} rows"):
            connection.multiply(PRODUCT, Connection.new_request_id(), data, len(x), 20.0, 10**6)
        assert not workers.dropped
        workers.close()
