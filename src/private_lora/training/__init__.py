"""Fine-tuning: one run from its spec to records, sidecar and adapter; the loop, evaluation, checkpoints; generation of text.

Must not know of the study around a run, nor of the network between it and its workers.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    run="finetune",
    preparation="Run prepare",
    loop="train",
    generation="Writer prepare_writer write",
    evaluation="evaluate_losses greedy_answers",
    checkpoints="Checkpoint",
)
