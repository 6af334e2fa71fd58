"""Whether outsourcing pays, in sentences computed from the lines of the table `alone_or_outsourced`."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

MEASURES = {
    "time": ("client_cpu_s_per_token", "the client's CPU time a token", "s", 1.0),
    "wall": ("wall_s_per_token", "the wall time of a token", "s", 1.0),
    "memory": ("client_peak_MB", "the client's memory", "GB", 1e-3),
    "money": ("money_per_million_tokens", "money for a million tokens", "", 1.0),
}
STEP = ["model", "machine", "blocks", "tokens"]


def sentences(lines: pd.DataFrame, alone: tuple[str, ...]) -> Iterator[str]:
    """For each step, one sentence on each of time, memory and money. alone: ways of the client without workers."""
    for (model, _, blocks, tokens), group in lines.groupby(STEP, sort=False):
        clear, remote = group[group["way"].isin(alone)], group[group["remote"].astype(bool)]
        whole = "" if (group["blocks"] == group["model_blocks"]).all() else f", {blocks:.0f} blocks of it"
        said = [text for name in MEASURES if (text := _said(name, clear, remote))]
        yield f"{model}{whole}, {tokens:,.0f} tokens a step: {'; '.join(said)}."


def _said(name: str, clear: pd.DataFrame, remote: pd.DataFrame) -> str:
    """The best way through workers beside the best alone; and which of the ways alone it beats."""
    column, what, unit, scale = MEASURES[name]
    clear, remote = (lines[lines[column].notna()] for lines in (clear, remote))
    if not len(clear) or not len(remote):
        return ""
    best, least = (lines.loc[lines[column].idxmin()] for lines in (remote, clear))
    beaten = [line["way"] for _, line in clear.iterrows() if best[column] < line[column]]
    verdict = "pays" if len(beaten) == len(clear) else "pays over " + ", ".join(beaten) + " only" if beaten else "does not pay"
    unit = best["currency"] if name == "money" else unit
    outsourced, own = (f"{line[column] * scale:.3g} {unit} with {line['way']}" for line in (best, least))
    return f"in {what} outsourcing {verdict} ({outsourced}; alone {own})"
