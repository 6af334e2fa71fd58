"""A probe puts noise of a known size into zero rows, and into no others."""

import numpy as np
import pytest

from private_lora.split.quantizers import quantize_weight
from private_lora.split.zero_rows import ZeroRowProbe

TERMS = quantize_weight(np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32), 7, "static_per_channel").terms


def test_zero_rows_get_signs_times_the_weights_scales():
    probe, gradient = ZeroRowProbe(np.random.default_rng(1)), np.ones((4, 5), np.float32)
    is_zero = np.array([True, False, True, False])
    gradient[is_zero] = 0
    probe.add(gradient, is_zero, TERMS)
    assert (gradient[~is_zero] == 1).all()
    assert np.allclose(np.abs(gradient[is_zero]), np.broadcast_to(TERMS.scale, (2, 5)))
    assert (probe.rows, probe.of_rows) == (2, 4)
    assert probe.squares == pytest.approx(2 * (TERMS.scale**2).mean())


def test_products_without_zero_rows_count_for_nothing():
    probe, gradient = ZeroRowProbe(np.random.default_rng(1)), np.ones((4, 5), np.float32)
    probe.add(gradient, np.zeros(4, bool), TERMS)
    assert (gradient == 1).all() and (probe.rows, probe.of_rows, probe.squares) == (0, 0, 0.0)
