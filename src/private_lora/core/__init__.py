"""Errors, names, files, paths and memory of this process: what every room may use.

Knows nothing of models, encryption or the study.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    cpu_time="CpuMeter",
    errors="Interrupted UserError",
    files="atomic_directory atomic_path make_directory owners_alone",
    memory="give_back_memory peak_memory_bytes",
    names="check_name load_object",
    paths="PACKAGE RESOURCES ROOT",
)
