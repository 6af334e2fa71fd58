"""Table of the cost model's predictions of steps through workers, beside the steps that were measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from private_lora.costs.model import IN_PROCESS, VALIDATION
from private_lora.publish.tables.claim import MET, MISSED
from private_lora.results.reader import Data

MOST_ERROR = 0.15
ALL_UNSEEN = "model, batch, network"
PARTS = ("client_time_s", "server_time_s", "network_time_s", "handling_time_s")
COLUMNS = ["model", "backend", "options", "machine", "bits", "tokens", "network", "arrangement", "workers", "rows_per_question"]
COLUMNS += ["unseen", *PARTS, "predicted_step_time_s", "measured_step_time_s", "error_percent", "within_15_percent"]
COLUMNS += ["formula", "status", "basis", "run_ids"]


def cost_validation(data: Data) -> pd.DataFrame:
    """One line for each whole step through workers that was measured and can be predicted; errors with their sign."""
    lines = data.costs[(data.costs["kind"] == VALIDATION) & (data.costs["network"] != IN_PROCESS)]
    lines = lines.rename(columns={"step_time_s": "predicted_step_time_s"})
    error = 100 * lines["relative_error"].astype(float)
    is_near = error.abs() <= 100 * MOST_ERROR
    lines = lines.assign(error_percent=error, within_15_percent=np.where(is_near, MET, MISSED))
    lines["unseen"] = [_unseen(line, data) for _, line in lines.iterrows()]
    lines["status"] = ["disturbed" if run_id in data.disturbed else "ok" for run_id in lines["run_id"]]
    table = lines[COLUMNS].reset_index(drop=True)
    table.attrs["notes"] = [
        "error: predicted over the measured median step, less 100 %; a negative one promised too little. unseen: of this "
        "step's model, batch and network those that no part was measured with: neither products nor the client's own work, nor "
        "what messages take beside the wire.",
        "client, server, network, handling: predicted seconds of a step, each by itself; handling: serialization, TLS and "
        "checks of answers. Their sum is more than the step where questions overlap. network: of the busiest link, of which "
        "each worker has one here; elsewhere in the model the client has one for all.",
        "Client and workers share the cores of one machine, and the model knows it: only the wire overlaps with their work. "
        "On machines of their own, they would overlap more; that was never measured.",
    ]
    return table


def _unseen(line: pd.Series, data: Data) -> str:
    """Which of model, batch and network no run behind a part has in common with the step."""
    parts = set(line["run_ids"].split()) - {line["run_id"]}
    rows = pd.concat([frame[frame["run_id"].isin(parts)] for frame in (data.convergence, data.block, data.loopback)])
    seen = {
        "model": line["model"] in {model.removesuffix(" (random weights)") for model in rows["model"]},
        "batch": line["tokens"] in {*rows["tokens"], *_counted(rows, "step_tokens")},
        "network": line["bandwidth_bits_per_s"] in _counted(rows, "link_bandwidth_bits_per_s"),
    }
    return ", ".join(name for name, known in seen.items() if not known)


def _counted(rows: pd.DataFrame, metric: str) -> set:
    return set(rows.loc[rows["metric"] == metric, "value"])
