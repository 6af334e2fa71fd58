"""How this project calls Concrete ML 1.9.0: surroundings adjusted in one place, and its clear layer."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import tempfile
import warnings
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch

from private_lora.core.errors import UserError


@contextlib.contextmanager
def concrete_ml_surroundings():
    """Concrete ML's modules by short name (`lora`, `hybrid`, ...), usable and quiet inside the block.

    Usable: it works with torch >= 2.9 and transformers 5, and its temporary files go when the block ends (by
    itself it leaves an ONNX file with the weight of every layer). Quiet: no progress bars, warnings or
    `training.log`.
    Raises UserError when the package is missing.
    """
    from transformers.pytorch_utils import Conv1D

    modules = _import_concrete_ml()
    # Concrete ML reads graphs of the TorchScript exporter, which is no longer the default since torch 2.9.
    legacy_export = functools.partial(torch.onnx.export, dynamo=False)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="concrete-ml-"))
        stack.enter_context(mock.patch.object(torch.onnx, "export", legacy_export))
        # Concrete ML turns GPT-2's Conv1D into Linear if it finds the class here, where transformers 4 had it.
        stack.enter_context(mock.patch.object(modules["transformers"], "Conv1D", Conv1D, create=True))
        stack.enter_context(mock.patch.object(tempfile, "tempdir", directory))
        stack.enter_context(mock.patch.object(modules["lora"], "setup_logger", _silent_logger))
        for name in ("lora", "hybrid"):
            bar = functools.partial(modules[name].tqdm, disable=True)
            stack.enter_context(mock.patch.object(modules[name], "tqdm", bar))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield modules


def _import_concrete_ml() -> dict:
    """Concrete ML's modules; imported late, because it takes seconds and only this backend needs it."""
    paths = {
        "lora": "concrete.ml.torch.lora",
        "hybrid": "concrete.ml.torch.hybrid_model",
        "linear": "concrete.ml.torch.hybrid_backprop_linear",
        "compile": "concrete.ml.torch.compile",
        "glwe": "concrete.ml.quantization.linear_op_glwe_backend",
        "utils": "concrete.ml.common.utils",
        "transformers": "transformers.modeling_utils",
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {name: importlib.import_module(path) for name, path in paths.items()}
    except ImportError as error:
        raise UserError(f"backend 'concrete_ml' needs the package concrete-ml: {error}") from None


def _silent_logger(*_) -> logging.Logger:
    logger = logging.getLogger("private_lora.concrete_ml")
    logger.setLevel(logging.CRITICAL)
    return logger


@dataclass(frozen=True)
class ClearLayer:
    """One linear layer as Concrete ML's clear GLWE path computes it, for T rows, K inputs and D outputs.

    y: float32, T x D. product: int64, T x D, unsigned activations times signed weights, as servers return it.
    accumulator: int64, T x D, the product without what the zero points added.
    """

    y: np.ndarray
    product: np.ndarray
    accumulator: np.ndarray


def clear_layer_output(weight: np.ndarray, x: np.ndarray, n_bits: int) -> ClearLayer:
    """x W from Concrete ML's GLWE executor in the clear: dynamic per token, static per channel.

    weight: float32, K x D; x: float32, T x K. Concrete ML sums in float32, so the integers are exact only as
    long as the product and each of its corrections stay below 2^24. Its own code quantizes, multiplies,
    corrects and dequantizes; the product is an argument of its correction step, the accumulator that step
    with scales of 1.
    """
    seen = {}
    rows = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    with concrete_ml_surroundings() as cml:
        columns = torch.from_numpy(np.ascontiguousarray(weight.T, dtype=np.float32))
        layer = cml["linear"].ForwardModuleLinear(columns)
        quantized = cml["compile"].build_quantized_module(layer, rows, n_bits=n_bits, keep_onnx=False)
        executor = cml["glwe"].GLWELinearLayerExecutor(use_dynamic_quantization=True)
        dequantize = executor._apply_correction_and_dequantize

        def remember(raw, *arguments):
            *zero_points, x_scale, weight_scale = arguments
            units = torch.ones_like(x_scale), torch.ones_like(weight_scale)
            seen["product"], seen["accumulator"] = raw, dequantize(raw, *zero_points, *units)
            return dequantize(raw, *zero_points, x_scale, weight_scale)

        executor._apply_correction_and_dequantize = remember
        y = executor.forward(rows, quantized, cml["utils"].HybridFHEMode.DISABLE)
    integers = (seen[name].to(torch.int64).numpy() for name in ("product", "accumulator"))
    return ClearLayer(y.numpy(), *integers)
