"""Activations recomputed in backward: a block keeps only its input and its remote answers, which nobody asks for twice."""

from __future__ import annotations

from torch import nn

from private_lora.core.memory import give_back_memory
from private_lora.split.session import Session
from private_lora.split.tape import Tape


def recompute_activations(model: nn.Module, session: Session) -> None:
    """Let each transformer block keep its input and its remote answers only, in training mode; in place.

    Everything else in a block (norms, attention, adapters) runs a second time in backward, with the same dropout, so losses and
    gradients are those of a model that keeps all. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """

    def contexts():
        tape = Tape()
        return tape.running(session, replaying=False), tape.running(session, replaying=True)

    settings = {"use_reentrant": False, "context_fn": contexts}
    # Newer versions of transformers warn about the other name, older ones have no other.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)(settings)
    # It also makes the embeddings' output ask for gradients, which only reentrant checkpoints need: the first block's q, k, v
    # would be sent gradients for nothing.
    model.disable_input_require_grads()
    # What the blocks left free goes back before the logits, the largest tensors of a step, ask for fresh memory.
    model.get_output_embeddings().register_forward_pre_hook(lambda *_: give_back_memory())
