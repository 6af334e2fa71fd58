"""The split linear layer: the frozen product runs at a backend, forward and backward; everything else stays with the client."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from private_lora.backends.arithmetic import ExactProduct
from private_lora.backends.base import Backend, Counters
from private_lora.errors import UserError
from private_lora.quantization import dequantize_product, quantize_activations, quantize_weight, value_range


@dataclass(frozen=True)
class Quantization:
    """How a run quantizes, forward and backward alike; None bits for a backend that does not."""

    activation_quantizer: str
    weight_quantizer: str
    activation_bits: int | None
    weight_bits: int | None
    constant_rows: str = "exact"


@dataclass
class Stages:
    """Seconds spent in each stage of the remote products of a run, and what was seen on the way."""

    quantize_s: float = 0.0
    encrypt_s: float = 0.0
    matmul_s: float = 0.0
    decrypt_s: float = 0.0
    remote_rows: int = 0
    backward_rows: int = 0
    zero_backward_rows: int = 0


@dataclass
class NoiseMeter:
    """Error of decrypted accumulators against the exact integer product, in integer units."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    largest: int = 0

    def add(self, error: np.ndarray) -> None:
        """Take in one matrix of errors."""
        self.count += error.size
        self.total += float(error.sum())
        self.squares += float((error.astype(np.float64) ** 2).sum())
        self.largest = max(self.largest, int(np.abs(error).max()))

    @property
    def std(self) -> float:
        """Standard deviation over everything seen; NaN before anything was."""
        if not self.count:
            return float("nan")
        mean = self.total / self.count
        return float(np.sqrt(max(0.0, self.squares / self.count - mean * mean)))


@dataclass
class Session:
    """What all remote layers of one run share: backend, quantization, the client's keys, stage times."""

    backend: Backend
    quantization: Quantization
    stages: Stages = field(default_factory=Stages)
    noise: NoiseMeter = field(default_factory=NoiseMeter)
    products: list[RemoteProduct] = field(default_factory=list)
    keys: object = None
    calibrating: bool = False
    before: Counters = field(default_factory=Counters)
    """What the run had counted when it was interrupted."""

    @property
    def counters(self) -> Counters:
        """Counters of all clients and servers."""
        return sum((p.server.counters + p.client.counters for p in self.products), self.before)

    @property
    def public_material_bytes(self) -> int:
        """Size of what the server gets once per key: 0 for a backend that needs no evaluation key."""
        material = self.products[0].client.public_material() if self.products else None
        return 0 if material is None else len(material.to_bytes())

    def resume(self, stages: dict, noise: dict, counters: dict) -> None:
        """Count on from an interrupted run."""
        self.stages, self.noise, self.before = Stages(**stages), NoiseMeter(**noise), Counters(**counters)


class RemoteProduct:
    """x W for one weight (K x D) and one direction, through a backend: quantize, encrypt, multiply, decrypt, dequantize."""

    def __init__(self, session: Session, weight: np.ndarray, name: str):
        self.session, self.name = session, name
        self.calibrated_range: tuple[float, float] | None = None
        q = session.quantization
        if q.weight_bits is None:
            self._quantized, integers = None, weight
        else:
            self._quantized = quantize_weight(weight, q.weight_bits, q.weight_quantizer, q.constant_rows)
            integers = self._quantized.values
        try:
            self.plan = session.backend.plan(integers, q.activation_bits)
        except ValueError as error:
            raise UserError(f"layer {name}: {error}") from None
        self.client = session.backend.client(self.plan, session.keys)
        session.keys = self.client.keys  # one key for all layers of a run: GLWE's packing key is 134 MB
        self.server = session.backend.server(self.plan, integers)
        measures_noise = self._quantized is not None and not self.plan.exact
        self._truth = ExactProduct(integers, q.activation_bits) if measures_noise else None
        self._weight = weight if q.activation_quantizer == "static_per_tensor" else None
        session.products.append(self)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 T x D from float32 T x K."""
        if self.session.calibrating:
            return self._calibrate(x)
        if self._quantized is None:
            return self._remote(x)
        q, stages = self.session.quantization, self.session.stages
        start = time.perf_counter()
        rows = quantize_activations(x, q.activation_bits, q.activation_quantizer, q.constant_rows, self.calibrated_range)
        quantized_at = time.perf_counter()
        product = self._remote(rows.values)
        decrypted_at = time.perf_counter()
        y = dequantize_product(product, rows, self._quantized)
        stages.quantize_s += quantized_at - start + time.perf_counter() - decrypted_at
        if self._truth is not None:
            self.session.noise.add(product - self._truth(rows.values))
        return y

    def _remote(self, x: np.ndarray) -> np.ndarray:
        """The backend's answer, its stages timed and its ciphertexts measured."""
        stages, counters = self.session.stages, self.client.counters
        times = [time.perf_counter()]
        question = self.client.encrypt(x)
        times.append(time.perf_counter())
        answer = self.server.matmul(question)
        times.append(time.perf_counter())
        product = self.client.decrypt(answer)
        times.append(time.perf_counter())
        if self.plan.security_bits:
            counters.upload_ciphertext_bytes += len(question.to_bytes())
            counters.download_ciphertext_bytes += len(answer.to_bytes())
        stages.encrypt_s += times[1] - times[0]
        stages.matmul_s += times[2] - times[1]
        stages.decrypt_s += times[3] - times[2]
        stages.remote_rows += len(x)
        return product

    def _calibrate(self, x: np.ndarray) -> np.ndarray:
        """The float product, with the range of x remembered."""
        low, high = value_range(x)
        if self.calibrated_range is not None:
            low, high = min(low, self.calibrated_range[0]), max(high, self.calibrated_range[1])
        self.calibrated_range = (low, high)
        return x @ self._weight


class _SplitFunction(torch.autograd.Function):
    """y = x W and dx = g W^T at the backend; W is frozen, so there is no gradient of it."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        return layer.rows_through(layer.forward_product, x)

    @staticmethod
    def backward(ctx, gradient):
        # Not called for the first q, k, v: their input needs no gradient, as nothing before them is trained.
        stages = ctx.layer.session.stages
        rows = gradient.detach().reshape(-1, gradient.shape[-1])
        stages.backward_rows += len(rows)
        stages.zero_backward_rows += int((rows == 0).all(dim=1).sum())
        return ctx.layer.rows_through(ctx.layer.backward_product, gradient), None


class SplitLinear(nn.Module):
    """A frozen linear layer whose weight (inputs x outputs) is at the server; the bias, if any, is added by the client.

    `weight` stays visible as a frozen parameter of the base layer's own layout, so that peft can inspect it.
    """

    def __init__(self, base: nn.Module, session: Session, name: str):
        super().__init__()
        self.session = session
        self.weight, self.bias = base.weight, base.bias
        weight = input_output_weight(base)
        self.in_features, self.out_features = weight.shape
        self.forward_product = RemoteProduct(session, weight, f"{name} forward")
        self.backward_product = RemoteProduct(session, np.ascontiguousarray(weight.T), f"{name} backward")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x W + b for x of shape (..., inputs)."""
        y = _SplitFunction.apply(x, self)
        return y if self.bias is None else y + self.bias

    @staticmethod
    def rows_through(product: RemoteProduct, x: torch.Tensor) -> torch.Tensor:
        """The product over the last axis of a tensor of any shape, back on its device and in its type."""
        rows = x.detach().reshape(-1, x.shape[-1]).to("cpu", torch.float32).numpy()
        y = torch.from_numpy(np.ascontiguousarray(product(rows)))
        return y.reshape(*x.shape[:-1], -1).to(x.device, x.dtype)


def input_output_weight(layer: nn.Module) -> np.ndarray:
    """The float32 weight as inputs x outputs: a Linear's transposed, GPT-2's Conv1D as it is; raises UserError otherwise."""
    kind = type(layer).__name__
    if kind not in ("Linear", "Conv1D"):
        raise UserError(f"a layer of type {kind} cannot be split: only torch Linear and GPT-2's Conv1D are supported")
    weight = layer.weight.detach().to("cpu", torch.float32)
    return np.ascontiguousarray((weight.T if kind == "Linear" else weight).numpy())


def split_model(peft_model: nn.Module, session: Session) -> int:
    """Number of frozen linear layers under LoRA in a peft model that now call the session's backend; in place."""
    from peft.tuners.lora import LoraLayer

    found = [(name, m) for name, m in peft_model.named_modules() if isinstance(m, LoraLayer)]
    for name, module in found:
        module.base_layer = SplitLinear(module.base_layer, session, name.removeprefix("base_model.model."))
    return len(found)


def calibrate(peft_model: nn.Module, session: Session, batch_size: int, sequence_length: int, seed: int) -> None:
    """Set the ranges of static quantizers by one pass, forward and backward, on random token ids and labels.

    As the reference implementation does (Concrete ML `LoraTrainer.compile`), but each row starts with the begin token, as in
    training: the massive activations of large models sit there. The batch size is the training's, because the loss is a mean
    over tokens and so sets the size of gradients. In float32, without dropout; gradients are dropped.
    """
    generator = torch.Generator().manual_seed(seed)
    vocabulary = peft_model.get_input_embeddings().weight.shape[0]
    shape = (batch_size, sequence_length)
    tokens = torch.randint(vocabulary, shape, generator=generator)
    labels = torch.randint(vocabulary, shape, generator=generator)
    begin = peft_model.config.bos_token_id
    if begin is not None:
        tokens[:, 0] = begin
    was_training = peft_model.training
    session.calibrating = True
    peft_model.eval()
    try:
        peft_model(input_ids=tokens, labels=labels).loss.backward()
    finally:
        session.calibrating = False
        peft_model.train(was_training)
        peft_model.zero_grad()
    for product in session.products:
        # The first layers' backward is never called, neither here nor in training.
        product.calibrated_range = product.calibrated_range or (0.0, 0.0)
