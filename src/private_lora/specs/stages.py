"""Parts of a study, in the order in which their rows are collected; each is a section of the configuration."""

FINE_TUNING = ("knowledge", "sweep", "codebase", "inflation", "encrypted", "packed", "full_size")
STAGES = (*FINE_TUNING, "loopback", "generation", "estimate", "layer", "block")
