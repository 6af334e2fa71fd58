"""One remote product: zero rows, closeness to float32, and what checking it costs."""

import time

import numpy as np
import pytest
from slow_tests import slow
from split_layers import MATMUL, PAIRS, QUANTIZED, random_rows, remote_product, session_of

from private_lora.backends import load
from private_lora.training.loop import train_step
from private_lora.training.preparation import prepare


@pytest.mark.parametrize(
    ("name", "pair"),
    [(slow if name == "glwe" and pair != PAIRS[0] else pytest.param)(name, pair) for name in MATMUL for pair in PAIRS],
)
def test_a_zero_row_stays_zero_through_every_backend(name, pair):
    session = session_of(name, pair)
    product = remote_product(session, random_rows(0, 24, 5))
    product.calibrated_range = (-3.0, 3.0)
    x = random_rows(1, 3, 24)
    x[1] = 0
    y = product(x)
    assert (y[1] == 0).all()
    assert (y[0] != 0).any()


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_layer_is_close_to_the_float_one(name):
    weight, x = random_rows(0, 64, 12), random_rows(1, 3, 64)
    y = remote_product(session_of(name), weight)(x)
    expected = x @ weight
    noise = 40 * np.abs(x).max() / 127 * np.abs(weight).max() / 127
    assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max() + (0 if load_is_exact(name) else 3 * noise)


def load_is_exact(name):
    return load(name).plan(np.ones((4, 4), np.int64), activation_bits=8).exact


def test_sixteen_bits_differ_from_float_by_less_than_a_thousandth():
    weight, x = random_rows(0, 512, 192), random_rows(1, 256, 512)
    y = remote_product(session_of("integer", bits=16), weight)(x)
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    assert np.linalg.norm(y - exact) / np.linalg.norm(exact) < 1e-3


def test_checking_approximate_answers_is_no_part_of_a_steps_time(make_spec, tmp_path, monkeypatch):
    run = prepare(make_spec(backend="glwe_simulated", eval_examples=0), tmp_path)
    slow = 0.05
    for product in run.session.products:
        truth = product._truth
        monkeypatch.setattr(product, "_truth", lambda x, truth=truth: (time.sleep(slow), truth(x))[1])
    start = time.perf_counter()
    train_step(run)
    waited = slow * run.session.counters.products
    (seconds,) = [row["value"] for row in run.recorder.rows if row["metric"] == "step_time_s"]
    assert seconds <= time.perf_counter() - start - waited
    assert run.session.timings.check_s >= waited
