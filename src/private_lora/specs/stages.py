"""Parts of a study, in the order in which their rows are collected; each is a section of the configuration."""

FINE_TUNING = ("knowledge", "sweep", "overflow", "codebase", "inflation", "encrypted", "packed", "full_size")
# Each has a file of rows, and directories of runs, of its own; all stages of fine-tuning share one.
MEASUREMENTS = ("loopback", "generation", "estimate", "layer", "block", "worker_view")
STAGES = (*FINE_TUNING, *MEASUREMENTS)
