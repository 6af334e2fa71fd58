"""What a run and its model must agree on: known while planning, where the model's config.json is at hand."""

from __future__ import annotations

from private_lora.core.errors import UserError
from private_lora.models.shapes import Architecture, architecture_of
from private_lora.specs.loopback import ThroughWorkers
from private_lora.specs.ranges import parse_ranges
from private_lora.specs.split import SplitSpec


def check_fits_model(spec: SplitSpec, tokens: int, name: str) -> None:
    """Nothing; raises UserError when the model has fewer blocks or positions than are asked for. name: of the tokens."""
    model = _architecture(spec.model)
    if model is None:
        return
    if spec.blocks and spec.blocks > model.blocks:
        raise UserError(f"blocks: {spec.blocks} are more than the {model.blocks} that {spec.model} has")
    if model.positions and tokens > model.positions:
        raise UserError(f"{name}: {tokens} tokens are more than the {model.positions} positions of {spec.model}")


def check_workers(spec: ThroughWorkers) -> None:
    """Nothing; raises UserError when workers hold blocks that the model does not have, or together not all that it has."""
    model = _architecture(spec.run.model)
    if model is None or not spec.workers:
        return
    wanted = set(range(min(spec.run.blocks or model.blocks, model.blocks)))
    held: set[int] = set()
    for layers in spec.workers:
        blocks = parse_ranges(layers)
        held |= wanted if blocks is None else blocks
    if held - wanted:
        raise UserError(f"workers: there is no block {min(held - wanted)}, the model has 0-{max(wanted)}")
    if wanted - held:
        raise UserError(f"workers: nobody holds block {min(wanted - held)} of 0-{max(wanted)}: add it to a worker")


def _architecture(model: str) -> Architecture | None:
    """The model's architecture; None where its config.json is not here, or of a kind that is not known."""
    try:
        return architecture_of(model)
    except UserError:
        return None
