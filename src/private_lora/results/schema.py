"""Columns of the files of results."""

from __future__ import annotations

COLUMNS = (
    "run_id",
    "stage",
    "model",
    "dataset",
    "backend",
    "device",
    "machine",
    "activation_quantizer",
    "weight_quantizer",
    "activation_bits",
    "weight_bits",
    "constant_rows",
    "variant",
    "seed",
    "repeat",
    "step",
    "phase",
    "metric",
    "value",
    "unit",
    "status",
    "basis",
)


COST_COLUMNS = (
    "kind",
    "run_id",
    "model",
    "blocks",
    "backend",
    "options",
    "device",
    "machine",
    "bits",
    "inputs",
    "tokens",
    "recompute",
    "lora_rank",
    "network",
    "bandwidth_bits_per_s",
    "latency_s",
    "workers",
    "local_time_s",
    "quantize_time_s",
    "encrypt_time_s",
    "matmul_time_s",
    "decrypt_time_s",
    "client_time_s",
    "server_time_s",
    "network_time_s",
    "upload_bytes",
    "download_bytes",
    "round_trips",
    "step_time_s",
    "overlapped_step_time_s",
    "tokens_per_s",
    "upload_bytes_per_token",
    "download_bytes_per_token",
    "money_per_step",
    "money_per_million_tokens",
    "currency",
    "limited_by",
    "measured_step_time_s",
    "relative_error",
    "products_basis",
    "local_basis",
    "formula",
    "basis",
    "run_ids",
)


COST_TEXTS = ("kind", "run_id", "model", "backend", "options", "device", "machine", "bits", "inputs", "network", "currency")


COST_TEXTS += ("limited_by", "products_basis", "local_basis", "formula", "basis", "run_ids")
