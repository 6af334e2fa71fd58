"""What is done already: a run whose records were made from the same spec, by the same code, from the same files."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from private_lora.core.files import owners_key
from private_lora.results.fingerprints import AnySpec, fingerprint
from private_lora.results.provenance import write_sidecar
from private_lora.specs.loopback import run_of
from private_lora.specs.split import SplitSpec
from private_lora.study.grid import model_files, private_files

KEY = ".key"


def origin(spec: AnySpec, runs: Path) -> dict:
    """All that a run's numbers follow from: digests of its spec, of its code and of the files that it reads.

    runs: directory of the runs. A digest of private text is keyed by a file there, so that it shows a change to the directory's
    owner, and nobody who reads the sidecar can confirm what he guesses of the text.
    """
    run = run_of(spec)
    models, texts = (model_files(run), private_files(run)) if isinstance(run, SplitSpec) else ([], [])
    files = {name: _sha256(Path(name)) for name in models}
    files |= {name: _keyed(owners_key(runs / KEY), Path(name)) for name in texts}
    return {"spec": spec.digest(), "code": fingerprint(spec), "files": files}


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


def _keyed(key: bytes, path: Path) -> str:
    with open(path, "rb") as handle:
        return "hmac-" + hashlib.file_digest(handle, lambda: hmac.new(key, digestmod="sha256")).hexdigest()
