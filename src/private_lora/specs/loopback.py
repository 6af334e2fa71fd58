"""A fine-tuning run through workers on this machine's loopback, as plain data: one spec per run of the stage `network`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from private_lora.core.errors import UserError
from private_lora.core.names import check_name
from private_lora.specs.base import Spec
from private_lora.specs.registry import REMOTE_BACKENDS
from private_lora.specs.run import RunSpec

LAYERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*|")


@dataclass(frozen=True)
class LoopbackSpec(Spec):
    """run: the fields of the `RunSpec`. workers: what each holds, such as `0-7`, or "" for all layers; none: in process.

    bandwidth_bits_per_s, latency_s (there and back): of a link before every worker; None and 0: loopback itself. tls: with
    certificates of its own. Otherwise as `network.remote.Asking`.
    """

    run_id: str
    run: dict
    workers: list[str] = field(default_factory=list)
    tls: bool = True
    check_answers: bool = True
    rows_per_question: int | None = None
    bandwidth_bits_per_s: float | None = None
    latency_s: float = 0.0
    stage: str = "loopback"

    @property
    def run_spec(self) -> RunSpec:
        """The fine-tuning run; raises UserError on a value that could not be run."""
        return RunSpec.from_dict(self.run)

    @property
    def is_shaped(self) -> bool:
        """Whether messages pass through a link that is slower than loopback."""
        return self.bandwidth_bits_per_s is not None or self.latency_s > 0

    def check(self) -> None:
        """Nothing; raises UserError, in one sentence, on any value that could not be run."""
        spec = self.run_spec
        check_name("backend of remote workers", spec.backend, REMOTE_BACKENDS)
        if self.workers and spec.activation_quantizer == "static_per_tensor":
            raise UserError("static_per_tensor is calibrated with the weights themselves: workers need a dynamic quantizer")
        for layers in self.workers:
            if not isinstance(layers, str) or not LAYERS.fullmatch(layers):
                raise UserError(f"workers: {layers!r} is no range of blocks such as 0-7, and not empty for all of them")
        if not self.workers and (self.is_shaped or self.rows_per_question):
            raise UserError("a run in process has neither a link nor questions: leave them out, or list workers")
