"""Ceilings are what was measured, of sizes that the device can multiply and copy in reasonable time."""

import pytest
import torch

from private_lora.bench import ceilings


@pytest.fixture(autouse=True)
def measured_anew():
    """Forget what this process has measured, before and after."""
    for ceiling in (ceilings.int8_ceiling, ceilings.copy_ceiling):
        ceiling.cache_clear()
    yield
    for ceiling in (ceilings.int8_ceiling, ceilings.copy_ceiling):
        ceiling.cache_clear()


@pytest.mark.parametrize(("seconds_of_512", "side"), [(9.0, 512), (0.12, 1024), (0.01, 2048), (1e-3, 4096), (1e-9, 4096)])
def test_squares_grow_while_the_next_would_not_take_too_long(monkeypatch, seconds_of_512, side):
    monkeypatch.setattr(ceilings, "_square_seconds", lambda n, device: seconds_of_512 * (n / 512) ** 3)
    assert ceilings.int8_ceiling("cpu") == pytest.approx(2 * 512**3 / seconds_of_512)
    asked = []
    monkeypatch.setattr(ceilings, "_square_seconds", lambda n, device: asked.append(n) or seconds_of_512 * (n / 512) ** 3)
    ceilings.int8_ceiling.cache_clear()
    ceilings.int8_ceiling("cpu")
    assert asked[-1] == side


def test_a_rate_is_the_work_over_its_median_time(monkeypatch):
    """The first call is the warm-up, and the clock of the five others makes the median 4 s."""
    moments = [0.0, 100.0, 0.0, 1.0, 0.0, 9.0, 0.0, 4.0, 0.0, 2.0, 0.0, 8.0]
    clock = iter(moments)
    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: next(clock))
    assert ceilings.copy_ceiling("cpu") == 2 * ceilings.COPIED_BYTES["cpu"] / 4.0
    assert next(clock, None) is None


def test_a_square_product_and_a_copy_are_really_made(monkeypatch):
    multiply, sides = torch._int_mm, []
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: sides.append((a.shape, b.shape, a.dtype)) or multiply(a, b))
    monkeypatch.setattr(ceilings, "LARGEST_SIDE", {"cpu": 512})
    monkeypatch.setattr(ceilings, "COPIED_BYTES", {"cpu": 2**20})
    assert ceilings.int8_ceiling("cpu") > 0
    assert sides == [((512, 512), (512, 512), torch.int8)] * (1 + ceilings.REPEATS)
    copy, copied = torch.Tensor.copy_, []
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, other: copied.append(other.nbytes) or copy(self, other))
    assert ceilings.copy_ceiling("cpu") > 0
    assert copied == [2**20] * (1 + ceilings.REPEATS)


def test_a_process_measures_once():
    assert ceilings.copy_ceiling("cpu") == ceilings.copy_ceiling("cpu")
