"""Columns of the files of results."""

from __future__ import annotations

import json
from pathlib import Path

from private_lora.core.errors import UserError

# 1: without this column; layer, tokens, inputs and outputs were words of `variant`, and a path was a `unit`.
# 2: of the packed backends, whose masks were all fresh, no options said so.
SCHEMA_VERSION = 3

# Metrics of texts, which stand in the column `note`.
TEXTS = ("answer", "token", "recovered_token")

# variant: what the configuration calls the group and the backend. options: of the backend, as JSON, where it has any. layer,
# tokens, inputs, outputs: what was multiplied, in a measurement of products. sample: number of a measurement in its run; rows
# of layers of one shape share it. note: what is to be known of the run beside its numbers.
COLUMNS = (
    "schema_version",
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
    "options",
    "layer",
    "tokens",
    "inputs",
    "outputs",
    "seed",
    "repeat",
    "sample",
    "step",
    "phase",
    "metric",
    "value",
    "unit",
    "status",
    "basis",
    "note",
)


def check_schema(path: object, columns: tuple[str, ...], versions: set[str]) -> None:
    """Nothing; raises UserError if these are columns and versions of records that this program does not read."""
    directory = Path(path).parent
    if "run_id" in columns and "metric" in columns and "schema_version" not in columns:
        raise UserError(
            f"{path} holds records of schema version 1: convert them with `private-lora convert {directory}`, or make them anew"
        )
    unknown = sorted(versions - {str(SCHEMA_VERSION)})
    if "schema_version" in columns and unknown:
        raise UserError(
            f"{path} holds records of schema version {unknown[0] or '(empty)'} and this program reads {SCHEMA_VERSION}: "
            f"convert older ones with `private-lora convert {directory}`, read newer ones with the program that wrote them"
        )


def options_text(options: dict) -> str:
    """The column `options`: JSON of a backend's options, empty for none."""
    return json.dumps(options, sort_keys=True, separators=(",", ":")) if options else ""


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
    "arrangement",
    "workers",
    "shards",
    "rows_per_question",
    "worker_weights_bytes",
    "local_time_s",
    "quantize_time_s",
    "encrypt_time_s",
    "matmul_time_s",
    "decrypt_time_s",
    "client_time_s",
    "server_time_s",
    "network_time_s",
    "handling_time_s",
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
COST_TEXTS += ("arrangement", "limited_by", "products_basis", "local_basis", "formula", "basis", "run_ids")
