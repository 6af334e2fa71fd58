"""The published figures: `FIGURES` maps a name to a function from `Data` to the figure and its points."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.names import check_name
from private_lora.publish.figures.block import block_latency
from private_lora.publish.figures.cost import bytes_per_token, full_step_stages, step_latency, step_time_by_bandwidth
from private_lora.publish.figures.gradients import encrypted_minus_clear, gradient_inflation
from private_lora.publish.figures.loopback import loopback_step
from private_lora.publish.figures.losses import final_loss_vs_bits, loss_curves
from private_lora.publish.figures.packed import packed_loss
from private_lora.publish.figures.stages import layer_latency, time_by_stage
from private_lora.publish.figures.style import STYLE, plt, write_figure
from private_lora.results.reader import Data, data_of

FIGURES = {
    "loss_curves": loss_curves,
    "final_loss_vs_bits": final_loss_vs_bits,
    "encrypted_minus_clear": encrypted_minus_clear,
    "time_by_stage": time_by_stage,
    "gradient_inflation": gradient_inflation,
    "packed_loss": packed_loss,
    "layer_latency": layer_latency,
    "block_latency": block_latency,
    "full_step_stages": full_step_stages,
    "loopback_step": loopback_step,
    "step_latency": step_latency,
    "bytes_per_token": bytes_per_token,
    "step_time_by_bandwidth": step_time_by_bandwidth,
}


def make_figure(name: str, data: Data | str | Path, out: str | Path) -> None:
    """Write figure `name` as `out` (.png) with .pdf and .csv beside it; UserError on an unknown name.

    data: what was read, or the directory with the collected CSVs.
    """
    check_name("figure", name, FIGURES)
    with plt.rc_context(STYLE):
        figure, points = FIGURES[name](data_of(data))
        write_figure(figure, points, out)
