"""Which runs were disturbed: how much of the machine's CPU time others may take before a measured time is not to be quoted."""

from __future__ import annotations

import pandas as pd

from private_lora.results.schema import TEXTS

# Of the CPU time of all cores while a run went on. Runs beside each other on purpose do not count as disturbed: see TIMED.
DISTURBED_SHARE = 0.05
# Stages whose times are results; the others' losses are the same whoever else computes.
TIMED = ("full_size", "layer", "block", "loopback", "generation", "estimate")
METRIC = "others_cpu_share"


def disturbed_runs(*frames: pd.DataFrame) -> dict[str, str]:
    """run_id -> what disturbed it, such as `others took 31 % of the CPU time`, for the runs of these rows that were disturbed.

    A run that has a note in its record is taken as disturbed, whatever was measured.
    """
    found: dict[str, list[str]] = {}
    for frame in frames:
        timed = frame[frame["stage"].isin(TIMED)]
        measured = timed[(timed["metric"] == METRIC) & (timed["value"] > DISTURBED_SHARE)]
        for run_id, share in zip(measured["run_id"], measured["value"], strict=True):
            found.setdefault(run_id, []).append(f"others took {100 * share:.0f} % of the CPU time")
        # The note of a text is the text.
        noted = timed[(timed["note"] != "") & ~timed["metric"].isin(TEXTS)].drop_duplicates(["run_id", "note"])
        for run_id, note in zip(noted["run_id"], noted["note"], strict=True):
            found.setdefault(run_id, []).append(note)
    return {run_id: "; ".join(dict.fromkeys(said)) for run_id, said in found.items()}
