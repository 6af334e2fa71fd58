"""The frozen products of a model: which layers form one, and their quantized weights, the same bits at client and worker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from private_lora.core.errors import UserError
from private_lora.specs.quantization import Quantization
from private_lora.split.quantizers import OutputTerms, concatenate_outputs, quantize_weight


@dataclass(frozen=True)
class ProductWeight:
    """The weight of one product, K x D: integers with the terms of their outputs, or float32 and None without quantization."""

    name: str
    values: np.ndarray
    terms: OutputTerms | None

    def digest(self) -> bytes:
        """SHA-256 of everything that decides an output: shape, values, scales and zero points."""
        terms = () if self.terms is None else (self.terms.scale, self.terms.zero_point)
        digest = hashlib.sha256()
        for array in (self.values, *terms):
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.digest()


def forward_weight(weight: np.ndarray, name: str, widths: Sequence[int], quantization: Quantization) -> ProductWeight:
    """Of y = x W for float32 matrices that stand side by side in W, so many outputs wide, each quantized by itself."""
    return product_weight(weight, f"{name} forward", quantization, widths)


def backward_weight(weight: np.ndarray, name: str, quantization: Quantization) -> ProductWeight:
    """Of dx = g W^T for the same W, now one matrix."""
    # Unquantized it is the forward weight itself, which a server in the clear then holds once for both.
    transposed = weight.T if quantization.weight_bits is None else np.ascontiguousarray(weight.T)
    return product_weight(transposed, f"{name} backward", quantization)


def product_weight(
    weight: np.ndarray, name: str, quantization: Quantization, widths: Sequence[int] | None = None
) -> ProductWeight:
    """A float32 weight, quantized if the run quantizes; widths: of the matrices in it, None for a single one."""
    if quantization.weight_bits is None:
        return ProductWeight(name, weight, None)
    parts = np.split(weight, np.cumsum(widths)[:-1], axis=1) if widths else [weight]
    how = quantization.weight_bits, quantization.weight_quantizer, quantization.constant_rows
    quantized = concatenate_outputs([quantize_weight(part, *how) for part in parts])
    return ProductWeight(name, quantized.values, quantized.terms)


def input_output_weight(layer: nn.Module, weight: torch.Tensor) -> np.ndarray:
    """The float32 weight as inputs x outputs: a Linear's transposed, GPT-2's Conv1D as it is; raises UserError otherwise."""
    kind = type(layer).__name__
    if kind not in ("Linear", "Conv1D"):
        raise UserError(f"a layer of type {kind} cannot be split: only torch Linear and GPT-2's Conv1D are supported")
    return np.ascontiguousarray((weight.T if kind == "Linear" else weight).numpy())
