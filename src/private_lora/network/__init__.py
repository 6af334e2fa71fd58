"""Data owner and workers as separate processes that share nothing but bytes."""
