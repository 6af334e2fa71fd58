"""Texts for fine-tuning: sources of examples by name, and examples as token ids and batches.

Must not know of models or training; neither torch nor the `datasets` library is needed to check a source's options.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    examples="Example make_example final_answer",
    compression="bits_per_byte predicted_text",
    encoding="Batches encode encoding_report prompt_ids text_lengths",
    load="load_divided load_examples validate_data",
)
