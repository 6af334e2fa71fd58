"""Names of published tables and figures."""

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
