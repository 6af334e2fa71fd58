"""Made-up rows of the stage overflow. Nothing here was measured or may be published."""

from __future__ import annotations

import json

from synthetic_results import run_rows

LAYERS = {"mlp.down_proj": 512, "self_attn.q_proj": 192}


def overflow_rows(model: str = "mini-llama") -> list[dict]:
    """Exact integers and both kinds of sums: nothing wraps at 8 bits, and at 12 a tenth of what goes forward."""
    rows = []
    for bits in (8, 12):
        keys = {"stage": "overflow", "model": model, "activation_bits": bits, "weight_bits": bits}
        rows += run_rows(f"over-integer-{bits}", 0.9, variant="", **keys)
        for variant, option, end in (("signed sums", "wrap", 1.8), ("unsigned sums", "wrap_unsigned", 2.25)):
            keys |= {"backend": "glwe_simulated", "options": json.dumps({"overflow": option})}
            name = f"over-{option}-{bits}"
            made = run_rows(name, end if bits == 12 else 0.9, variant=variant, **keys)
            rows += made + _counted(made[0], bits)
    return rows


def _counted(base: dict, bits: int) -> list[dict]:
    """Worst case, outputs and wrapped outputs of two layers, forward and backward, of the run of a row."""
    rows = []
    for layer, inputs in LAYERS.items():
        for phase in ("forward", "backward"):
            wrapped = 100 if bits == 12 and phase == "forward" else 0
            counted = {"accumulator_bits": 2 * bits + 8, "checked_outputs": 1000, "wrapped_outputs": wrapped}
            about = base | {"phase": phase, "layer": layer, "inputs": inputs, "step": ""}
            rows += [about | {"metric": metric, "value": value} for metric, value in counted.items()]
    return rows
