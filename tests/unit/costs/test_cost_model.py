"""The arithmetic of the cost model: by hand on a tiny example, and what must hold whatever the numbers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from private_lora.costs.fits import fit
from private_lora.costs.model import APART, JOINT, Work, predict, products_of
from private_lora.models.shapes import architecture_of
from private_lora.results.schema import COST_COLUMNS, COST_TEXTS

PRICES = {"currency": "EUR", "worker_per_hour": 3.6, "client_per_hour": 7.2, "traffic_per_gb": 10.0, "note": "made up"}
NETWORK = {"name": "n", "bandwidth_bits_per_s": 8e6, "latency_s": 0.5}
WORK = Work(10, 1.0, 2.0, 3.0, 8.0, 4.0, 6e6, 2e6, 4)

seconds = st.floats(0.001, 1e4)
works = st.builds(Work, st.integers(1, 8192), *[seconds] * 5, *[st.floats(1, 1e10)] * 2, st.integers(1, 300))
networks = st.builds(
    lambda b, t: {"name": "n", "bandwidth_bits_per_s": b, "latency_s": t}, st.floats(1e3, 1e12), st.floats(0, 1)
)


def test_a_step_by_hand():
    line = predict(WORK, NETWORK, 1, PRICES)
    assert (line["client_time_s"], line["server_time_s"]) == (10.0, 8.0)
    assert line["network_time_s"] == 8.0 + 2.0  # 8 MB at 1 MB/s, four round trips of half a second
    assert (line["step_time_s"], line["overlapped_step_time_s"]) == (28.0, 10.0)
    assert line["tokens_per_s"] == pytest.approx(10 / 28)
    assert (line["upload_bytes_per_token"], line["download_bytes_per_token"]) == (6e5, 2e5)
    # 28 s of worker and client at 0.001 and 0.002 a second, and 8 MB.
    assert line["money_per_step"] == pytest.approx(28 * 0.003 + 0.08)
    assert line["money_per_million_tokens"] == pytest.approx(line["money_per_step"] * 1e5)


def test_more_workers_share_the_product_and_each_get_the_upload():
    line = predict(WORK, NETWORK, 4, PRICES)
    assert (line["server_time_s"], line["upload_bytes"], line["download_bytes"]) == (2.0, 24e6, 2e6)
    assert line["network_time_s"] == 26.0 + 2.0
    assert line["limited_by"] == "network"
    assert line["money_per_step"] == pytest.approx(40 * (4 * 0.001 + 0.002) + 0.26)


def test_a_plaintext_step_is_the_clients_alone():
    plain = dataclasses.replace(WORK, encrypt_s=0, decrypt_s=0, upload_bytes=0, download_bytes=0, round_trips=0, remote=False)
    line = predict(plain, None, 1, PRICES)
    assert (line["client_time_s"], line["server_time_s"], line["network_time_s"]) == (11.0, 0.0, 0.0)
    assert (line["limited_by"], line["money_per_step"]) == ("client", pytest.approx(11 * 0.002))


@given(works, networks, st.integers(1, 64), st.floats(1, 1e3))
def test_more_bandwidth_is_never_slower(work, network, workers, factor):
    faster = network | {"bandwidth_bits_per_s": network["bandwidth_bits_per_s"] * factor}
    before, after = (predict(work, n, workers, PRICES) for n in (network, faster))
    for name in ("step_time_s", "overlapped_step_time_s", "money_per_step"):
        assert after[name] <= before[name] * (1 + 1e-12)


@given(works, networks, st.integers(1, 64))
def test_the_overlapped_step_is_a_lower_bound_and_limits_it(work, network, workers):
    line = predict(work, network, workers, PRICES)
    assert line["overlapped_step_time_s"] == line[f"{line['limited_by']}_time_s"]
    assert line["step_time_s"] / 3 <= line["overlapped_step_time_s"] * (1 + 1e-12) <= line["step_time_s"] * (1 + 2e-12)


@given(works, networks)
def test_one_worker_is_no_split(work, network):
    line = predict(work, network, 1, PRICES)
    assert (line["server_time_s"], line["upload_bytes"], line["download_bytes"]) == (
        work.matmul_s,
        work.upload_bytes,
        work.download_bytes,
    )


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
