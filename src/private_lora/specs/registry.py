"""Names a study may use, and where their code lives. Imports nothing heavy: the workflow reads it at parse time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackendEntry:
    """Where a backend is, and what may be said about it without importing it.

    kind: `matmul` backends follow `backends.base`; a `trainer` runs a whole training loop of its own.
    quantized: False only for float32, which has no bit-width.
    encrypted: a run of it must count encrypted products, or it fails.
    basis: `measured` or `simulated`, printed in every table.
    """

    path: str
    kind: str
    quantized: bool
    encrypted: bool
    basis: str
    devices: tuple[str, ...] = ("cpu",)


BACKENDS = {
    "float": BackendEntry("private_lora.backends.clear.float:FloatBackend", "matmul", False, False, "measured"),
    "integer": BackendEntry("private_lora.backends.clear.integer:IntegerBackend", "matmul", True, False, "measured"),
    "glwe_simulated": BackendEntry(
        "private_lora.backends.glwe.simulated:GlweSimulatedBackend", "matmul", True, False, "simulated"
    ),
    "glwe": BackendEntry("private_lora.backends.glwe.backend:GlweBackend", "matmul", True, True, "measured", ("cpu", "cuda")),
    "packed": BackendEntry(
        "private_lora.backends.packed.exact:PackedBackend", "matmul", True, True, "measured", ("cpu", "cuda")
    ),
    "packed_approx": BackendEntry(
        "private_lora.backends.packed.approx:PackedApproxBackend", "matmul", True, True, "measured", ("cpu", "cuda")
    ),
    "packed_simulated": BackendEntry(
        "private_lora.backends.packed.approx:PackedSimulatedBackend", "matmul", True, False, "simulated"
    ),
    "concrete_ml": BackendEntry(
        "private_lora.training.concrete_ml.trainer:ConcreteMLBackend", "trainer", True, False, "measured"
    ),
}

# Those that workers can serve: a simulated one draws its noise by the client's steps.
REMOTE_BACKENDS = tuple(name for name, e in BACKENDS.items() if e.kind == "matmul" and e.basis != "simulated")

# Products in the clear that the stage `block` times beside backends: torch alone, without the protocol around it.
PLAINTEXT = ("plaintext_float32", "plaintext_float64", "plaintext_bf16", "plaintext_int8")
# Widest signed integers that these hold exactly; the others hold all that the quantizers make.
PLAINTEXT_BITS = {"plaintext_bf16": 9, "plaintext_int8": 8}

ACTIVATION_QUANTIZERS = (
    "dynamic_per_token",
    "dynamic_per_tensor",
    "static_per_tensor",
    "symmetric_per_token",
)
WEIGHT_QUANTIZERS = ("static_per_channel", "static_per_tensor", "symmetric_per_channel")
DATASETS = {
    name: f"private_lora.data.sources.{name}" for name in ("math_problems", "codebase", "jsonl", "hub", "random_tokens")
}
BUILT_IN_MODELS = ("mini-llama", "mini-llama-outlier", "nano")
# Configurations without weights, under resources/architectures: for measurements of cost with random weights.
ARCHITECTURES = ("Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.1-70B", "GPT-2", "Qwen2.5-1.5B")
MIN_BITS, MAX_BITS = 2, 16

# Names of `private_lora.publish.tables.TABLES` and `private_lora.publish.figures.FIGURES`, which are slow to import.
PUBLISHED_TABLES = (
    "final_loss",
    "encrypted_vs_clear",
    "layer",
    "block_latency",
    "block_bytes",
    "block_utilisation",
    "published_comparison",
    "encryption_counters",
    "gradient_inflation",
    "packed_training",
    "full_step",
    "loopback",
    "client_memory",
    "step_cost",
    "client_economics",
    "runs",
    "claims",
)
PUBLISHED_FIGURES = (
    "loss_curves",
    "final_loss_vs_bits",
    "encrypted_minus_clear",
    "time_by_stage",
    "gradient_inflation",
    "packed_loss",
    "layer_latency",
    "block_latency",
    "full_step_stages",
    "loopback_step",
    "step_latency",
    "bytes_per_token",
    "step_time_by_bandwidth",
)
