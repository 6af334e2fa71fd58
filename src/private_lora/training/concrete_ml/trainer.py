"""`concrete_ml`: Concrete ML's own `LoraTrainer` on our model, batches, adapter, optimizer and schedule.

The reference implementation: Concrete ML 1.9.0 quantizes, replaces layers, differentiates, encrypts and runs
the training loop. That loop reports nothing about a single step, so it is fed by an iterable that acts
between two steps: it gives batch i, and when asked for the next one it reads the loss that the trainer stored
and the gradient norms that the trainer logs before it clips. Nothing else of the loop is touched.

Which of its two paths does the work is Concrete ML's choice (GLWE if every remote layer has at least 512
inputs and outputs, compiled circuits otherwise), and each has its own quantization; both are read from what
was built and called. Circuits quantize statically and are compiled for the accumulators seen in calibration:
a larger one wraps around without an error. `wrong_outputs` counts those.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import time
from itertools import takewhile

import torch

from private_lora.core.errors import UserError
from private_lora.results.schema import options_text
from private_lora.specs.options import ConcreteMLOptions
from private_lora.split.linear import linear_layers
from private_lora.training.concrete_ml.clear import clear_layer_output, concrete_ml_surroundings
from private_lora.training.concrete_ml.meter import Meter, install
from private_lora.training.loop import seed_dropout

__all__ = ["ConcreteMLBackend", "clear_layer_output"]

GLWE_SECURITY_BITS = 128  # what the extension's authors state for its default parameters


class ConcreteMLBackend:
    """Trains a peft model by Concrete ML; a backend of kind `trainer`.

    labels: from the compilation in `train` on, what the columns `activation_quantizer`, `weight_quantizer`, `activation_bits`,
    `weight_bits` and `constant_rows` must say of this run, read from the quantizers that did the work.
    """

    name = "concrete_ml"

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.labels: dict = {}

    def train(self, peft_model, batches, optimizer, scheduler, spec, on_step) -> dict:
        """Facts about the run, `{metric: (value, unit)}`; the adapter in `peft_model` is trained in place.

        peft_model: LoRA on its linear layers; its frozen layers are replaced meanwhile, and back at the end.
        batches: a sequence, or a callable from i = 0, 1, ...; dicts of int64 tensors `input_ids`,
        `attention_mask`, `labels`, all of spec.sequence_length, for which the circuits are compiled.
        spec: a RunSpec; `backend_options["mode"]` is `disable` (clear) or `execute` (encrypted, the default).
        on_step(step, loss, grad_norm, learning_rate, step_time_s): called after each step, counted from 1,
        with the gradient norm before clipping.
        Raises FloatingPointError when a loss is not finite.
        """
        mode = ConcreteMLOptions(**spec.backend_options).mode
        meter = Meter()
        with concrete_ml_surroundings() as cml, _layers_restored(peft_model, cml["lora"].LINEAR_LAYERS):
            start = time.perf_counter()
            trainer = _compiled_trainer(cml, peft_model, optimizer, scheduler, spec)
            compile_s = time.perf_counter() - start
            hybrid = trainer.hybrid_model
            circuits = [q.fhe_circuit for q in hybrid.private_q_modules.values() if q.fhe_circuit is not None]
            self.labels = _labels(hybrid)
            install(hybrid, meter)
            times = {"compile_time_s": (compile_s, "s")}
            if mode == "execute":
                start = time.perf_counter()
                _make_keys(hybrid)
                times["keygen_time_s"] = (time.perf_counter() - start, "s")
            trainer.train(StepLoader(trainer, batches, spec, on_step), num_epochs=1, fhe=mode)
            facts = _facts(meter, hybrid, circuits, mode)
            self.labels["options"] = options_text({"mode": mode, "path": meter.path})
        if mode == "execute":
            meter.check_encrypted()
        return facts | times


class StepLoader:
    """The batches of a run as Concrete ML's loop asks for them; at each request the step before is reported.

    Stands in for a torch DataLoader: the loop uses its length and iterates once.
    """

    def __init__(self, trainer, batches, spec, on_step):
        self._trainer, self._spec, self._on_step = trainer, spec, on_step
        self._batch = batches if callable(batches) else batches.__getitem__

    def __len__(self) -> int:
        return self._spec.steps

    def __iter__(self):
        for i in range(len(self)):
            batch = self._batch(i)
            learning_rate = self._trainer.lr_scheduler.get_last_lr()[0]
            seed_dropout(self._spec, i)
            start = time.perf_counter()
            yield batch
            self._report(i + 1, learning_rate, time.perf_counter() - start)

    def _report(self, step: int, learning_rate: float, seconds: float) -> None:
        loss = self._trainer.training_losses[-1]
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {step}")
        histories = self._trainer.gradient_stats.values()
        grad_norm = math.sqrt(sum(history[-1] ** 2 for history in histories if len(history) == step))
        self._on_step(step, loss, grad_norm, learning_rate, seconds)


def _compiled_trainer(cml, peft_model, optimizer, scheduler, spec):
    """Concrete ML's trainer over the model, calibrated and compiled, before its first step."""
    calibration = calibration_batch(peft_model, spec)
    was_training = peft_model.training
    peft_model.eval()  # no dropout in calibration, as in ours
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = cml["lora"].LoraTrainer(
            peft_model,
            optimizer,
            lr_scheduler=scheduler,
            training_args={"use_cpu": True, "max_grad_norm": spec.max_grad_norm},
            n_layers_to_skip_for_backprop=layers_without_backward(peft_model, calibration),
            train_log_path=os.devnull,
        )
        trainer.compile(calibration, n_bits=spec.activation_bits, use_dynamic_quantization=True)
    peft_model.train(was_training)
    # Calibration ran backward too; the loop zeroes the optimizer's gradients only, and clips by all of them.
    trainer.lora_training_module.zero_grad()
    return trainer


def calibration_batch(peft_model, spec) -> dict:
    """Random token ids and labels, int64, of the shape of a training batch, as the reference's notebooks do.

    The number of examples matters: the loss is a mean over tokens, so with more of them the gradients are smaller,
    and real ones would be clamped. Circuits are compiled for the number of tokens of one example.
    """
    generator = torch.Generator().manual_seed(spec.seed)
    vocabulary = peft_model.get_input_embeddings().weight.shape[0]
    shape = (spec.batch_size, spec.sequence_length)
    return {key: torch.randint(vocabulary, shape, generator=generator) for key in ("input_ids", "labels")}


def layers_without_backward(peft_model, batch: dict) -> int:
    """How many of the first linear layers get an input without gradient: 3 for Llama (q, k, v), 1 for GPT-2.

    Concrete ML counts all linear layers, in the order of the modules, whether LoRA is on them or not. Raises UserError if it
    is on none.
    """
    from peft.tuners.lora import LoraLayer

    if not any(isinstance(m, LoraLayer) for m in peft_model.modules()):
        raise UserError("backend 'concrete_ml' needs a model with LoRA layers: add an adapter first")
    layers = [layer for *_, layer in linear_layers(peft_model.get_base_model())]
    needs_gradient: dict = {}

    def remember(layer, inputs):
        needs_gradient[layer] = inputs[0].requires_grad

    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    try:
        peft_model(input_ids=batch["input_ids"][:1])
    finally:
        for hook in hooks:
            hook.remove()
    return sum(1 for _ in takewhile(lambda layer: not needs_gradient[layer], layers))


@contextlib.contextmanager
def _layers_restored(model, kinds):
    """When the block ends, the linear layers are back where they were: Concrete ML replaces them in place."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kinds)
    ]
    try:
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)


def _make_keys(hybrid) -> None:
    """All keys now, so that the first step's time is a step's time."""
    if hybrid.executor is not None:
        hybrid.executor.keygen()
        return
    for module in hybrid.private_q_modules.values():
        module.fhe_circuit.keygen()


def _facts(meter: Meter, hybrid, circuits: list, mode: str) -> dict:
    facts = {
        "hybrid_path": (1, ""),
        "compiled_circuits": (len(circuits), ""),
        "remote_layers": (len(hybrid.remote_modules), ""),
        "remote_matmuls": (meter.glwe_calls + meter.circuit_calls, ""),
        "encrypted_matmuls": (meter.encrypted_products, ""),
        "remote_rows": (meter.remote_rows, ""),
        "upload_ciphertext_bytes": (meter.upload_ciphertext_bytes, "B"),
        "download_ciphertext_bytes": (meter.download_ciphertext_bytes, "B"),
        "encrypt_time_s": (meter.encrypt_s, "s"),
        "matmul_time_s": (meter.matmul_s, "s"),
        "decrypt_time_s": (meter.decrypt_s, "s"),
    }
    if mode == "disable":
        return facts
    facts["public_material_bytes"] = (_public_material_bytes(hybrid, circuits), "B")
    facts["security_bits"] = (_security_bits(circuits), "bits")
    if meter.checked_outputs:
        facts["wrong_outputs"] = (meter.wrong_outputs, "")
        facts["checked_outputs"] = (meter.checked_outputs, "")
    if meter.noise.count:
        facts["accumulator_noise_std"] = (meter.noise.std, "units")
        facts["accumulator_noise_max"] = (meter.noise.largest, "units")
        facts["accumulator_noise_samples"] = (meter.noise.count, "")
    return facts


def _public_material_bytes(hybrid, circuits: list) -> int:
    """Bytes of all evaluation keys; a circuit of one linear layer needs none and has an empty set."""
    if hybrid.executor is not None:
        return len(hybrid.executor.compression_key.serialize())
    return sum(len(circuit.client.evaluation_keys.serialize()) for circuit in circuits)


def _security_bits(circuits: list) -> int:
    """The security level that the circuits were compiled for; the extension's stated one on the GLWE path."""
    if not circuits:
        return GLWE_SECURITY_BITS
    return min(circuit.configuration.security_level.value for circuit in circuits)


def _labels(hybrid) -> dict:
    """The quantization of the run, from the quantizers that were built."""
    module = next(iter(hybrid.private_q_modules.values()))
    bits = module.input_quantizers[0].quant_options.n_bits
    (_, operation), *_ = module.quant_layers_dict.values()
    weight = next(iter(operation.constant_inputs.values())).quantizer
    if hybrid.executor is not None and hybrid.executor.use_dynamic_quantization:
        quantizers = "dynamic_per_token", "static_per_channel"
    else:
        symmetric = weight.quant_options.is_symmetric
        quantizers = "static_per_tensor", "symmetric_per_tensor" if symmetric else "static_per_tensor"
    return {
        "activation_quantizer": quantizers[0],
        "weight_quantizer": quantizers[1],
        "activation_bits": bits,
        "weight_bits": weight.quant_options.n_bits,
        # A static range is never that of one row, so circuits treat a constant row like any other.
        "constant_rows": "reference" if hybrid.executor is not None else "",
    }
