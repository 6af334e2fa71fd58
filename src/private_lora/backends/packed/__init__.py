"""Token-packed RLWE: exact, approximate, simulated; and its messages."""
