"""The arithmetic of the cost model: by hand on a tiny example, and what must hold whatever the numbers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from private_lora.costs.arrangement import Arrangement
from private_lora.costs.fits import fit
from private_lora.costs.model import APART, JOINT, Part, Work, predict, products_of
from private_lora.models.shapes import architecture_of
from private_lora.results.schema import COST_COLUMNS, COST_TEXTS

PRICES = {"currency": "EUR", "worker_per_hour": 3.6, "client_per_hour": 7.2, "traffic_per_gb": 10.0, "note": "made up"}
NETWORK = {"name": "n", "bandwidth_bits_per_s": 8e6, "latency_s": 0.5}
WORK = Work(10, 1.0, 2.0, (Part(4, 0.75, 2.0, 1.0, 1.5e6, 0.5e6),))
ONE = Arrangement()

seconds = st.floats(0.001, 1e4)
parts = st.builds(Part, st.integers(1, 50), *[seconds] * 3, *[st.floats(1, 1e9)] * 2)
works = st.builds(
    Work,
    st.integers(1, 8192),
    seconds,
    seconds,
    st.lists(parts, min_size=1, max_size=4).map(tuple),
    st.just(True),
    st.floats(0, 1e-7),
)
networks = st.builds(
    lambda b, t: {"name": "n", "bandwidth_bits_per_s": b, "latency_s": t}, st.floats(1e3, 1e12), st.floats(0, 1)
)
arrangements = st.builds(Arrangement.of, st.integers(1, 8), st.integers(1, 8), st.none() | st.integers(1, 2048))


def test_a_step_by_hand():
    line = predict(WORK, NETWORK, ONE, PRICES)
    assert (line["client_time_s"], line["server_time_s"]) == (10.0, 8.0)
    assert line["network_time_s"] == 8.0 + 2.0  # 8 MB at 1 MB/s, four round trips of half a second
    assert (line["step_time_s"], line["overlapped_step_time_s"]) == (28.0, 10.0)
    assert line["tokens_per_s"] == pytest.approx(10 / 28)
    assert (line["upload_bytes_per_token"], line["download_bytes_per_token"]) == (6e5, 2e5)
    # 28 s of worker and client at 0.001 and 0.002 a second, and 8 MB.
    assert line["money_per_step"] == pytest.approx(28 * 0.003 + 0.08)
    assert line["money_per_million_tokens"] == pytest.approx(line["money_per_step"] * 1e5)


def test_what_messages_take_beside_the_wire_is_counted_by_the_byte():
    line = predict(dataclasses.replace(WORK, handling_s_per_byte=1e-6), NETWORK, ONE, PRICES)
    assert line["handling_time_s"] == pytest.approx(8.0)
    assert line["step_time_s"] == pytest.approx(36.0)


def test_two_replicas_and_two_questions_by_hand():
    """Encrypt 0.375 each, up 0.75 each after another, 0.25 there, product 1, down 0.25, 0.25 back, decrypt 0.5."""
    line = predict(WORK, NETWORK, Arrangement.of(1, 2, 5), PRICES)
    # The second question is on the line from 1.125 to 1.875, at its worker until 3.125 and back at 3.625.
    assert line["step_time_s"] == pytest.approx(3.0 + 4 * (3.625 + 0.5))
    assert (line["server_time_s"], line["round_trips"]) == (4.0, 8)
    assert line["upload_bytes"] == 6e6  # rows are split, and none is sent twice


def test_cores_of_one_machine_are_not_used_twice():
    apart = Arrangement.of(1, 2, 5)
    together = dataclasses.replace(apart, one_machine=True)
    without = {name: predict(WORK, None, how, PRICES)["step_time_s"] for name, how in (("apart", apart), ("one", together))}
    assert without["one"] == pytest.approx(3 + 4 * (0.75 + 2 + 1))  # all work, one after the other
    assert without["apart"] < without["one"]


@given(works, networks, arrangements, st.integers(2, 8))
def test_shards_make_no_step_faster_and_are_all_paid(work, network, how, shards):
    more = dataclasses.replace(how, shards=shards * how.shards, workers=shards * how.workers)
    few, many = (predict(work, network, each, PRICES) for each in (how, more))
    assert many["server_time_s"] == few["server_time_s"]
    # Only where more questions than fit were in flight before may more workers let the client run ahead.
    if len(how.questions(work.tokens)) <= 2 * how.workers:
        assert many["step_time_s"] == few["step_time_s"]
        assert many["money_per_step"] > few["money_per_step"]


@given(works, networks, st.integers(1, 8), st.integers(1, 2048))
def test_replicas_are_never_faster_than_their_number(work, network, replicas, rows):
    one, many = (predict(work, network, Arrangement.of(1, n, rows), PRICES) for n in (1, replicas))
    assert many["server_time_s"] >= one["server_time_s"] / replicas * (1 - 1e-9)
    assert many["step_time_s"] >= one["step_time_s"] / max(1, replicas) * (1 - 1e-9)
    assert (many["upload_bytes"], many["download_bytes"]) == (one["upload_bytes"], one["download_bytes"])


def test_replicas_are_spare_where_a_product_is_one_question():
    one, four = (predict(WORK, NETWORK, Arrangement.of(1, n), PRICES) for n in (1, 4))
    assert four["step_time_s"] == one["step_time_s"] and four["money_per_step"] > one["money_per_step"]


@given(works, networks, arrangements)
def test_transfers_are_exact(work, network, how):
    line = predict(work, network, how, PRICES)
    size = line["upload_bytes"] + line["download_bytes"]
    assert size == pytest.approx(sum(p.times * (p.upload_bytes + p.download_bytes) for p in work.parts))
    trips = work.calls * -(-work.tokens // min(how.rows_per_question or work.tokens, work.tokens))
    assert line["round_trips"] == trips
    assert line["network_time_s"] == pytest.approx(8 * size / network["bandwidth_bits_per_s"] + trips * network["latency_s"])


@given(works, networks, arrangements)
def test_a_step_is_between_its_largest_part_and_their_sum(work, network, how):
    line = predict(work, network, how, PRICES)
    least, most = line["overlapped_step_time_s"], sum(line[f"{n}_time_s"] for n in ("client", "network", "handling"))
    assert least * (1 - 1e-9) <= line["step_time_s"] <= (most + work.total("matmul_s")) * (1 + 1e-9)


@given(works, networks, st.integers(1, 8), st.integers(1, 2048))
def test_one_machine_is_never_faster_than_two(work, network, replicas, rows):
    apart = Arrangement.of(1, replicas, rows)
    together = dataclasses.replace(apart, one_machine=True)
    fast, slow = (predict(work, network, how, PRICES)["step_time_s"] for how in (apart, together))
    assert slow >= fast * (1 - 1e-9)


def test_a_plaintext_step_is_the_clients_alone():
    line = predict(dataclasses.replace(WORK, parts=(Part(4, 0, 2.0, 0),), remote=False), None, None, PRICES)
    assert (line["client_time_s"], line["server_time_s"], line["network_time_s"]) == (11.0, 0.0, 0.0)
    assert (line["limited_by"], line["money_per_step"]) == ("client", pytest.approx(11 * 0.002))


@given(works, networks, arrangements, st.floats(1, 1e3))
def test_more_bandwidth_is_never_slower(work, network, how, factor):
    faster = network | {"bandwidth_bits_per_s": network["bandwidth_bits_per_s"] * factor}
    before, after = (predict(work, n, how, PRICES) for n in (network, faster))
    for name in ("step_time_s", "overlapped_step_time_s", "money_per_step"):
        assert after[name] <= before[name] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("model", "inputs", "calls"),
    [
        ("Llama-3.2-1B", JOINT, 16 * 8 - 1),
        ("Llama-3.2-1B", APART, 16 * 14 - 3),
        ("GPT-2", APART, 12 * 8 - 1),
        ("GPT-2", JOINT, 12 * 8 - 1),
    ],
)
def test_calls_of_a_step(model, inputs, calls):
    architecture = architecture_of(model)
    products = products_of(architecture, inputs, architecture.blocks)
    assert sum(p.times for p in products) == calls
    forward = sum(p.times * p.inputs * p.outputs for p in products if p.phase == "forward")
    assert forward == architecture.remote_weights


@given(st.lists(st.floats(0, 10), min_size=4, max_size=4).filter(lambda c: sum(c) > 0.1))
def test_a_fit_finds_the_law_that_made_the_values(coefficients):
    shapes = np.array([(64, 64), (64, 512), (512, 64), (1024, 2048), (4096, 128), (128, 4096)], float)
    k, d = shapes.T
    values = np.stack([np.ones(len(k)), k, d, k * d], axis=1) @ np.array(coefficients)
    found = fit(shapes, values)
    assert (found >= 0).all()
    assert np.stack([np.ones(len(k)), k, d, k * d], axis=1) @ found == pytest.approx(values, rel=1e-6)


def test_nothing_sent_stays_nothing():
    assert fit(np.array([(1.0, 2.0), (3.0, 4.0)]), np.zeros(2)).tolist() == [0, 0, 0, 0]


def test_every_text_column_is_a_column():
    assert set(COST_TEXTS) < set(COST_COLUMNS)
    assert len(set(COST_COLUMNS)) == len(COST_COLUMNS)
