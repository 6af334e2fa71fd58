"""int8 products: every kernel that is used gives the very integers on any CPU; one that saturates is not used."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.core.errors import UserError
from private_lora.crypto import kernels
from private_lora.crypto.kernels import KERNELS, Int8Product, PrepackedProduct, fastest_kernel, gpu_kernel, is_exact

EXACT = [name for name, kind in KERNELS.items() if is_exact(kind)]
ISAS = ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_AMX"]
FLAGS = {"AVX2": "avx2", "AVX512_CORE": "avx512bw", "AVX512_CORE_VNNI": "avx512_vnni", "AVX512_CORE_AMX": "amx_int8"}


def int8(seed, shape, extreme=False):
    generator = np.random.default_rng(seed)
    return (generator.choice([-128, 127], shape) if extreme else generator.integers(-128, 128, shape)).astype(np.int8)


def summed(pieces):
    """The pieces' sum, int64."""
    return sum(piece.astype(np.int64) for piece in pieces)


def joined(values, step):
    """One big integer of each value's planes."""
    return sum(value.astype(object) << (step * i) for i, value in enumerate(values))


def assert_exact(kind, planes, weight):
    product = kind(weight)
    found = summed(product(torch.from_numpy(planes)))
    expected = planes.astype(np.int64) @ weight.astype(np.int64)
    np.testing.assert_array_equal(joined(found, product.step), joined(expected, 8))


def test_float64_is_always_there():
    assert "float64" in EXACT
    assert fastest_kernel() in EXACT


@pytest.mark.parametrize("name", EXACT)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.tuples(st.integers(1, 70), st.integers(1, 300), st.integers(1, 70)),
    st.booleans(),
)
@settings(max_examples=40)
def test_every_kernel_gives_the_integers(name, seed, planes, shape, extreme):
    rows, inputs, outputs = shape
    assert_exact(KERNELS[name], int8(seed, (planes, rows, inputs), extreme), int8(seed + 1, (inputs, outputs), extreme))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("inputs", [2048, 8192, 20000])
@pytest.mark.parametrize("digit", [-128, 127])
@pytest.mark.parametrize("entry", [-128, 127])
def test_the_largest_sums_are_exact(name, inputs, digit, entry):
    planes, weight = np.full((3, 2, inputs), digit, np.int8), np.full((inputs, 40), entry, np.int8)
    planes[1, :, ::2], weight[:, 1::2] = -1 - digit, -1 - entry
    assert_exact(KERNELS[name], planes, weight)


@pytest.mark.parametrize("name", EXACT)
def test_a_part_of_a_larger_matrix_is_multiplied_alone(name):
    planes, weight = int8(0, (5, 9, 64)), int8(1, (40, 100))
    product, expected = (
        KERNELS[name](weight[:, 30:63]),
        planes[:, 2:7, :40].astype(np.int64) @ weight[:, 30:63].astype(np.int64),
    )
    found = summed(product(torch.from_numpy(planes)[:, 2:7, :40]))
    np.testing.assert_array_equal(joined(found, product.step), joined(expected, 8))


class Saturating(Int8Product):
    """As CPUs without VNNI do it: sums of neighbouring products stop at 16 bits."""

    name = "saturating"

    def __call__(self, planes):
        unsigned, weight = planes.to(torch.int32) + 128, self._weight.to(torch.int32)
        pairs = [unsigned[..., i : i + 2] @ weight[i : i + 2] for i in range(0, weight.shape[0], 2)]
        total = sum(pair.clamp(-(2**15), 2**15 - 1) for pair in pairs) - 128 * weight.sum(dim=0)
        return (total.numpy(),)


class Missing(Int8Product):
    """An operator that this build of torch does not have."""

    name = "missing"

    def __init__(self, weight, device="cpu"):
        torch.ops.onednn.no_such_operator()


def test_a_kernel_that_saturates_is_exact_on_small_values_and_not_used(monkeypatch, caplog):
    small = int8(0, (3, 9, 64)) // 8, int8(1, (64, 20)) // 8
    found = summed(Saturating(small[1])(torch.from_numpy(small[0])))
    np.testing.assert_array_equal(found, small[0].astype(np.int64) @ small[1].astype(np.int64))
    assert not is_exact(Saturating)
    assert not is_exact(Missing)
    monkeypatch.setattr(kernels, "KERNELS", {kind.name: kind for kind in (Saturating, Missing, KERNELS["float64"])})
    with caplog.at_level("INFO", logger="private_lora.crypto.kernels"):
        assert fastest_kernel.__wrapped__() == "float64"
    assert "none that is exact and fast" in caplog.text


class Slow(Int8Product):
    """As torch multiplies int8 on a CPU without units for it."""

    name = "slow"

    def __call__(self, planes):
        time.sleep(0.2)
        return super().__call__(planes)


def test_an_exact_kernel_that_is_slower_than_float64_is_not_used(monkeypatch):
    monkeypatch.setattr(kernels, "KERNELS", {kind.name: kind for kind in (Slow, KERNELS["float64"])})
    assert is_exact(Slow)
    assert fastest_kernel.__wrapped__() == "float64"


class Rounding(Int8Product):
    """As AMX does it in the product of packed weights: sums become float32 before the zero point's share is taken away."""

    name = "rounding"

    def __call__(self, planes):
        weight = self._weight.to(torch.int64)
        sums = ((planes.to(torch.int64) + 128) @ weight).to(torch.float32)
        return ((sums - 128 * weight.sum(dim=0)).to(torch.int64).numpy(),)


def test_a_kernel_that_rounds_is_not_used():
    """Exact on most products, so that random ones would not show it."""
    planes, weight = int8(0, (3, 9, 1000)), int8(1, (1000, 20))
    np.testing.assert_array_equal(
        summed(Rounding(weight)(torch.from_numpy(planes))), planes.astype(np.int64) @ weight.astype(np.int64)
    )
    assert not is_exact(Rounding)


@pytest.mark.skipif("not torch.cpu._is_amx_tile_supported()", reason="this CPU has no AMX")
def test_cuts_for_signed_sums_would_round_with_amx(monkeypatch):
    """What the start-up test is for: it refuses pieces that are cut as if the zero point were taken away first."""
    monkeypatch.setattr(kernels, "_LARGEST_UNSIGNED", 128)
    assert not is_exact(PrepackedProduct)


def test_the_choice_is_logged(caplog):
    with caplog.at_level("INFO", logger="private_lora.crypto.kernels"):
        name = fastest_kernel.__wrapped__()
    assert f"int8 products: {name}" in caplog.text or (name == "float64" and "float64 instead" in caplog.text)


@pytest.mark.skipif("torch.cuda.is_available()", reason="this machine has a GPU")
def test_a_gpu_that_does_not_multiply_exactly_is_refused():
    assert not is_exact(Int8Product, "cuda")
    with pytest.raises(UserError, match=r"torch\._int_mm on device 'cuda' does not multiply extreme bytes exactly"):
        gpu_kernel()


@pytest.mark.skipif("not torch.cuda.is_available()", reason="this machine has no GPU")
def test_a_gpu_multiplies_exactly():
    assert gpu_kernel() == "int8"


IN_A_PROCESS = """
import numpy as np
from private_lora.crypto.kernels import KERNELS, fastest_kernel, is_exact
from private_lora.crypto.planes import PlaneProduct
name, generator = fastest_kernel(), np.random.default_rng(0)
for rows, inputs, outputs in ((1, 2048, 96), (40, 300, 70), (130, 2500, 33)):
    whole, ends = (lambda s: generator.integers(-128, 128, s)), (lambda s: generator.choice([-128, 127], s))
    for draw in (whole, ends, lambda s: np.full(s, -128)):
        planes, weight = draw((5, rows, inputs)).astype(np.int8), draw((inputs, outputs)).astype(np.int8)
        truth = [PlaneProduct(weight, kernel).rounded(planes, 38, 30).data for kernel in (name, "float64")]
        assert (truth[0] == truth[1]).all()
print(name, *[kind for kind in KERNELS if is_exact(KERNELS[kind])])
"""


def has(flag):
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and flag in cpuinfo.read_text().split()


@pytest.mark.parametrize("isa", ISAS)
def test_the_chosen_kernel_is_exact_with_fewer_instructions(isa):
    if not has(FLAGS[isa]):
        pytest.skip(f"this CPU has no {FLAGS[isa]}")
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", IN_A_PROCESS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, *exact = done.stdout.split()
    assert name in exact
    print(f"{isa}: {name} of {', '.join(exact)}")


@pytest.mark.skipif("prepacked" not in EXACT, reason="this build of torch has no oneDNN product of packed weights")
@pytest.mark.parametrize("inputs", [1, 100, 1032, 1033, 2065, 9000])
@pytest.mark.parametrize("kind", ["large", "one large column", "small", "zero", "growing"])
def test_inputs_are_cut_so_that_float32_holds_every_sum(inputs, kind):
    weight = {
        "large": np.full((inputs, 33), -128),
        "one large column": np.where(np.arange(33) == 7, 127, int8(0, (inputs, 33)) // 64),
        "small": int8(0, (inputs, 33)) // 32,
        "zero": np.zeros((inputs, 33)),
        "growing": np.minimum(127, np.arange(inputs) // 8)[:, None] * np.ones(33, int),
    }[kind].astype(np.int8)
    product = PrepackedProduct(weight)
    cuts = [0, *(part.stop for part in product._parts)]
    assert cuts[-1] == inputs and cuts == sorted(set(cuts))
    assert [part.start for part in product._parts] == cuts[:-1]
    sums = [np.abs(weight[a:b].astype(np.int64)).sum(axis=0).max() for a, b in itertools.pairwise(cuts)]
    assert 255 * max(sums) < 2**24
    assert len(sums) == 1 or kind in ("large", "one large column", "growing")
    for digit in (-128, 127):
        assert_exact(PrepackedProduct, np.full((3, 5, inputs), digit, np.int8), weight)
    assert_exact(PrepackedProduct, int8(3, (3, 5, inputs)), weight)
