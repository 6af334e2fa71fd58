"""What is done already: a run whose records were made from the same spec, by the same code, from the same files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from private_lora.results.fingerprints import AnySpec, fingerprint
from private_lora.results.provenance import write_sidecar
from private_lora.specs.loopback import run_of
from private_lora.specs.split import SplitSpec
from private_lora.study.grid import input_files


def origin(spec: AnySpec) -> dict:
    """All that a run's numbers follow from: digests of its spec, of its code and of the files that it reads."""
    run = run_of(spec)
    files = input_files(run) if isinstance(run, SplitSpec) else []
    return {"spec": spec.digest(), "code": fingerprint(spec), "files": {name: _sha256(Path(name)) for name in files}}


def is_done(origin: dict, records: Path) -> bool:
    """Whether `records` are there, and the sidecar beside them says that they are of this origin."""
    try:
        written = json.loads((records.parent / "sidecar.json").read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return records.is_file() and written.get("origin") == origin


def mark_done(origin: dict, records: Path) -> None:
    """Add the origin to the sidecar of records that are complete: it is the last thing that is written of a run."""
    path = records.parent / "sidecar.json"
    write_sidecar(path, json.loads(path.read_text()) | {"origin": origin})


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
