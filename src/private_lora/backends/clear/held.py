"""How the clear products hold a frozen weight: once, for x W and for g W^T, in as many bits as its type says.

A CPU without arithmetic of a narrow type multiplies it many times slower than float32: there, a weight is widened block by
block at each call and multiplied as float32. On an EPYC with AVX2 and no more (one thread, 2048 x 2048, beside other work),
float32 took 9 ms for 64 rows and 49 ms for 512, and widening 4 bits 1.2 ms on top; torch's own 4-bit product
(`torch._weight_int4pack_mm_for_cpu`, which rounds to bf16 and has no transpose) took 17 and 175 ms, torch's bf16 product 50 and
618 ms in its better layout, 1,538 and 13,317 ms in the other.
"""

from __future__ import annotations

from typing import Protocol

import numba
import numpy as np
import torch

from private_lora.crypto.parallel import in_ranges

GROUP = 64  # entries that share a scale, along the inputs, as in QLoRA (Dettmers et al., 2023, section 2)
LARGEST = {"int8": 127, "int4": 7}
BLOCK_ENTRIES = 2**22  # of what is widened at once: 16 MiB


class HeldWeight(Protocol):
    """A weight W, K x D."""

    def product(self, rows: torch.Tensor, transposed: bool) -> torch.Tensor:
        """float32 rows W, or rows W^T."""


class TensorWeight:
    """In a type that torch multiplies: float32, or bfloat16 on CPUs that have it."""

    def __init__(self, weight: np.ndarray, dtype: torch.dtype):
        self._weight = torch.from_numpy(np.asarray(weight, dtype=np.float32)).to(dtype)

    def product(self, rows: torch.Tensor, transposed: bool) -> torch.Tensor:
        """As of HeldWeight; rows and answer are rounded to the type."""
        weight = self._weight.T if transposed else self._weight
        return (rows.to(weight.dtype) @ weight).float()


class WidenedWeight:
    """In a narrow type, and multiplied as float32, some outputs at a time; base of those below.

    Its memory is that of the narrow type and of one block. shape: K, D.
    """

    def __init__(self, shape: tuple[int, int]):
        self._inputs, self._outputs = shape

    def widened(self, start: int, stop: int) -> torch.Tensor:
        """Columns start..stop-1 of W as rows of float32, (stop - start) x K."""
        raise NotImplementedError

    def product(self, rows: torch.Tensor, transposed: bool) -> torch.Tensor:
        """As of HeldWeight."""
        y = torch.zeros(len(rows), self._inputs if transposed else self._outputs)
        step = max(1, BLOCK_ENTRIES // self._inputs)
        for start in range(0, self._outputs, step):
            stop = min(start + step, self._outputs)
            block = self.widened(start, stop)
            if transposed:
                y.addmm_(rows[:, start:stop], block)
            else:
                y[:, start:stop] = rows @ block.T
        return y


class Bfloat16Weight(WidenedWeight):
    """2 bytes an entry. Rows and answers are rounded to bfloat16, as a bfloat16 product would."""

    def __init__(self, weight: np.ndarray):
        super().__init__(weight.shape)
        self._weight = torch.from_numpy(np.asarray(weight, dtype=np.float32).T).bfloat16().contiguous()

    def widened(self, start: int, stop: int) -> torch.Tensor:
        return self._weight[start:stop].float()

    def product(self, rows: torch.Tensor, transposed: bool) -> torch.Tensor:
        return super().product(rows.bfloat16().float(), transposed).bfloat16().float()


class GroupedWeight(WidenedWeight):
    """Signed levels of 8 or 4 bits, symmetric, and a bfloat16 scale for each GROUP inputs of an output: 8.25 or 4.25 bits.

    It is another weight than the float32 one: an entry is off by up to half a level, 1/254 or 1/14 of its group's largest.
    """

    def __init__(self, weight: np.ndarray, kind: str):
        super().__init__(weight.shape)
        inputs, outputs = weight.shape
        groups = np.zeros((outputs, -(-inputs // GROUP) * GROUP), np.float32)
        groups[:, :inputs] = weight.T
        groups = groups.reshape(outputs, -1, GROUP)
        self._scale = torch.from_numpy(np.abs(groups).max(axis=2) / LARGEST[kind]).bfloat16()
        scale = self._scale.float().numpy()[:, :, None]
        groups /= np.where(scale > 0, scale, 1)
        levels = np.rint(groups, out=groups).clip(-LARGEST[kind], LARGEST[kind]).astype(np.int8)
        if kind == "int4":
            half = GROUP // 2
            levels = (levels[:, :, :half] + 8).view(np.uint8) | (levels[:, :, half:] + 8).view(np.uint8) << 4
        self._levels = np.ascontiguousarray(levels)
        self._widen = {"int8": _widen_8, "int4": _widen_4}[kind]

    @property
    def byte_count(self) -> int:
        """Bytes that are held."""
        return self._levels.nbytes + self._scale.nbytes

    def widened(self, start: int, stop: int) -> torch.Tensor:
        scale = self._scale[start:stop].float().numpy()
        out = np.empty((stop - start, scale.shape[1], GROUP), np.float32)
        in_ranges(self._widen, stop - start, self._levels[start:stop], scale, out)
        return torch.from_numpy(out.reshape(stop - start, -1)[:, : self._inputs])


@numba.njit(nogil=True, cache=True)
def _widen_8(start, stop, levels, scale, out):
    """Rows start..stop-1 of levels x scale (N x groups x GROUP, N x groups)."""
    for row in range(start, stop):
        for group in range(scale.shape[1]):
            for i in range(levels.shape[2]):
                out[row, group, i] = scale[row, group] * np.float32(levels[row, group, i])


@numba.njit(nogil=True, cache=True)
def _widen_4(start, stop, packed, scale, out):
    """As `_widen_8`, of two levels a byte: a group's first half in the lower bits, its second half in the upper."""
    half = packed.shape[2]
    for row in range(start, stop):
        for group in range(scale.shape[1]):
            for i in range(half):
                both = np.int32(packed[row, group, i])
                out[row, group, i] = scale[row, group] * np.float32((both & 15) - 8)
                out[row, group, half + i] = scale[row, group] * np.float32((both >> 4) - 8)


def multiplies_bfloat16() -> bool:
    """Whether this CPU has arithmetic of bfloat16."""
    return torch.cpu._is_avx512_bf16_supported()


def hold(weight: np.ndarray, dtype: str) -> HeldWeight:
    """A float K x D weight, to be multiplied on the CPU. dtype: float32, bfloat16, int8 or int4."""
    if dtype == "float32":
        return TensorWeight(weight, torch.float32)
    if dtype == "bfloat16":
        return TensorWeight(weight, torch.bfloat16) if multiplies_bfloat16() else Bfloat16Weight(weight)
    return GroupedWeight(weight, dtype)
