"""Which frozen layers have the same input, so that one remote product can serve them: said once for model, block and costs."""

from __future__ import annotations

from collections.abc import Iterable

# By their names in a block; in a model each has the suffix `_proj` and stands behind its parent's name.
SHARED_INPUTS = (("q", "k", "v"), ("gate", "up"))
# Those that read a block's input: in the first block nothing below wants its gradient. `attn` is GPT-2's q, k and v.
READS_BLOCK_INPUT = (*SHARED_INPUTS[0], "attn")


def groups(names: Iterable[str], share_inputs: bool) -> list[list[str]]:
    """The names, those of layers with the same input together, each group where its first member stands."""
    found: dict = {}
    for name in names:
        parent, _, own_name = name.rpartition(".")
        shared = _sharing(own_name) if share_inputs else None
        found.setdefault((parent, shared) if shared else name, []).append(name)
    return list(found.values())


def joint_name(names: list[str]) -> str:
    """Such as `layers.0.self_attn.q_proj+k_proj+v_proj`; a single name stays what it is."""
    return "+".join([names[0], *(name.rpartition(".")[2] for name in names[1:])])


def shares_an_input(name: str) -> bool:
    """Whether a layer of this name may have the same input as others."""
    return _sharing(name) is not None


def _sharing(own_name: str) -> tuple[str, ...] | None:
    return next((shared for shared in SHARED_INPUTS if own_name.removesuffix("_proj") in shared), None)
