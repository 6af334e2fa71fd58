"""What was renamed since b24a8b2. An entry works before and after the renaming. Imports nothing of the package."""

from __future__ import annotations

# Old name -> present name, of stages (the prefix of a run_id too).
STAGES = {"latency": "layer", "network": "loopback"}
# Old name -> present name, of sections of the configuration.
SECTIONS = STAGES
# Old name -> present name, of metrics.
METRICS: dict[str, str] = {}


def run_id(old: str, stage: str) -> str:
    """The present run_id of an old one of this (old) stage."""
    return f"{STAGES[stage]}_{old.removeprefix(f'{stage}_')}" if stage in STAGES else old


# Tables and figures.
PUBLISHED = {
    "latency": "layer",
    "network": "loopback",
    "latency_by_backend": "layer_latency",
    "network_step": "loopback_step",
    "time_by_stage": "time_by_operation",
    "full_step_stages": "full_step_operations",
}
