"""The published tables: `TABLES` maps a name to its function from `Data`; `write_table` writes the files."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.names import check_name
from private_lora.publish.tables.block import block_bytes, block_latency
from private_lora.publish.tables.block_utilisation import block_utilisation
from private_lora.publish.tables.claims import claims
from private_lora.publish.tables.client_memory import client_memory
from private_lora.publish.tables.comparison import published_comparison
from private_lora.publish.tables.convergence import final_loss, gradient_inflation, runs
from private_lora.publish.tables.encryption import encrypted_vs_clear, encryption_counters
from private_lora.publish.tables.full_step import full_step
from private_lora.publish.tables.layer import layer
from private_lora.publish.tables.loopback import loopback
from private_lora.publish.tables.packed import packed_training
from private_lora.publish.tables.render import write_table
from private_lora.publish.tables.step_cost import client_economics, step_cost
from private_lora.results.reader import Data, data_of

TABLES = {
    "final_loss": final_loss,
    "encrypted_vs_clear": encrypted_vs_clear,
    "layer": layer,
    "block_latency": block_latency,
    "block_bytes": block_bytes,
    "block_utilisation": block_utilisation,
    "published_comparison": published_comparison,
    "encryption_counters": encryption_counters,
    "gradient_inflation": gradient_inflation,
    "packed_training": packed_training,
    "full_step": full_step,
    "loopback": loopback,
    "client_memory": client_memory,
    "step_cost": step_cost,
    "client_economics": client_economics,
    "runs": runs,
    "claims": claims,
}


def make_table(name: str, data: Data | str | Path, out: str | Path) -> None:
    """Write table `name` as `out` (.csv) with .md, .tex and .html beside it; UserError on an unknown name.

    data: what was read, or the directory with the collected CSVs.
    """
    check_name("table", name, TABLES)
    write_table(TABLES[name](data_of(data)), out)


__all__ = ["TABLES", "make_table", "write_table"]
