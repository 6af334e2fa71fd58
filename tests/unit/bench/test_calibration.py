"""What a calibration multiplies, and how."""

import numpy as np
import pytest

from private_lora.backends.clear.held import GROUP
from private_lora.bench import calibration
from private_lora.bench.calibration import _columns_of, _small_run
from private_lora.bench.plaintext import FourBitProduct
from private_lora.specs.run import RunSpec

RUN = {"run_id": "estimate", "model": "nano", "weights": "random", "data": "random_tokens", "backend": "float"}


def test_four_bits_are_those_of_absolute_maxima():
    generator = np.random.Generator(np.random.PCG64(0))
    x, weight = generator.standard_normal((5, 150), dtype=np.float32), generator.standard_normal((150, 24), dtype=np.float32)
    product = FourBitProduct(x, weight)
    stored = product.weight().float().numpy()
    assert stored.shape == weight.shape
    for first in range(0, 150, GROUP):
        largest = np.abs(weight[first : first + GROUP]).max(axis=0)
        assert (np.abs(stored - weight)[first : first + GROUP] <= largest / 14 + largest / 100).all()
        assert all(len(np.unique(column)) <= 15 for column in stored[first : first + GROUP].T)
    times, y = product()
    assert times["matmul_time_s"][0] > 0
    exact = x.astype(np.float64) @ stored.astype(np.float64)
    assert y == pytest.approx(exact, rel=1e-5, abs=1e-5 * np.abs(exact).max())


def test_wide_layers_are_cut_and_small_ones_are_not(monkeypatch):
    assert _columns_of({(64, 32), (32, 64)}, 128) == {(64, 32): 32, (32, 64): 64}
    cut = _columns_of({(2048, 16384), (16384, 2048), (2048, 2048)}, 2048)
    assert cut[2048, 16384] < 16384 / 2 and cut[16384, 2048] >= calibration.FEWEST_COLUMNS
    products = 2048 * sum(k * d for (k, _), d in cut.items())
    assert products == pytest.approx(calibration.PRODUCT_BUDGET, rel=0.05)


def test_blocks_keep_as_much_as_there_are_tokens():
    kept = []
    for length in (16, 32):
        spec = RunSpec(**RUN, batch_size=2, sequence_length=length, steps=1)
        kept.append([calibration._kept_bytes(_small_run("nano", spec, blocks, 64)) for blocks in (1, 2)])
    (one, two), (one_long, two_long) = kept
    assert two_long - one_long == pytest.approx(2 * (two - one), rel=0.1)
    # A block's input alone is kept in float32.
    assert two - one > 4 * 2 * 16 * 64
