"""An estimate beside the run that it is of: both in one record, so that errors of estimates are measured ones."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

from private_lora.cli.estimate_run import make_estimate
from private_lora.core.errors import UserError
from private_lora.core.files import make_directory, owners_alone
from private_lora.costs.arrangement import Arrangement
from private_lora.specs.estimate import EstimateSpec

NO_PRICES = {"currency": "", "worker_per_hour": 0.0, "client_per_hour": 0.0, "traffic_per_gb": 0.0, "note": "none"}
# Recorded metric -> where it stands in the estimate of a backend, and its unit.
ESTIMATED = {
    "estimated_step_time_s": (("step_in_process", "step_time_s"), "s"),
    "estimated_upload_bytes_per_token": (("step_in_process", "upload_bytes_per_token"), "B"),
    "estimated_download_bytes_per_token": (("step_in_process", "download_bytes_per_token"), "B"),
    "estimated_hint_bytes": (("hint_bytes",), "B"),
    "estimated_hint_time_s": (("hint_time_s",), "s"),
    "estimated_peak_memory_bytes": (("memory_in_process_bytes",), "B"),
}


def check_estimate(spec: EstimateSpec, out: Path) -> None:
    """Write the rows of the run, with those of the estimate made before it (`out`), and a sidecar beside them.

    The run is a process of its own, so that its memory and its first step are not the calibration's. Raises UserError where
    it fails; its log is then beside the records.
    """
    from private_lora.results.provenance import Start, write_sidecar
    from private_lora.results.recorder import Recorder, write_rows

    started = Start()
    found = make_estimate(spec.run, [spec.run.backend], None, NO_PRICES, Arrangement())
    run_out = out.parent / "run" / "records.csv"
    _run(spec, run_out)
    with open(run_out, newline="") as file:
        rows = list(csv.DictReader(file))
    common = {
        name: value for name, value in rows[0].items() if name not in ("metric", "value", "unit", "phase", "status", "step")
    }
    recorder = Recorder(common | {"basis": "extrapolated"})
    (backend,) = found["backends"]
    for metric, (path, unit) in ESTIMATED.items():
        value = backend
        for key in path:
            value = value[key]
        recorder.add(metric, value, unit, phase="estimate")
    recorder.add("calibration_time_s", found["calibration_time_s"], "s", phase="estimate", basis="measured")
    recorder.add("planning_time_s", found["planning_time_s"], "s", phase="estimate", basis="measured")
    recorder.add("bytes_are_planned", int(backend["bytes_basis"] == "exact"), phase="estimate")
    recorder.add_shares(started.cpu_shares())
    sidecar = json.loads((run_out.parent / "sidecar.json").read_text())
    content = sidecar | {"spec": spec.to_dict(), "spec_digest": spec.digest(), "estimate": found}
    write_sidecar(out.parent / "sidecar.json", content | {"environment": started.environment()})
    write_rows(out, [row for row in rows if not row["metric"].endswith("_cpu_share")] + recorder.rows)


def _run(spec: EstimateSpec, out: Path) -> None:
    """The run itself, by the command that anybody would give."""
    make_directory(out.parent)
    log = out.parent / "log.txt"
    command = [sys.executable, "-m", "private_lora", "finetune", "--quiet", "--spec", spec.run.to_json(), "--out", str(out)]
    with open(log, "w", opener=owners_alone) as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if status:
        raise UserError(f"{spec.run_id}: the run that was estimated failed: see {log}")
