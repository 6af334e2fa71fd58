"""A study: its configuration, checked, and the grid of runs and measurements that it asks for.

Read at every start of Snakemake, so it imports neither torch nor pandas. Must not know how anything is computed.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    config="load_study study_of",
    grid="Study input_files",
)
