"""Records of earlier schema versions as those of the present one.

From version 1, what stood in `variant` and `unit` gets columns of its own. From version 2, packed backends get the option
that they had without saying so: a fresh mask for every question.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.results.recorder import BLANK, write_rows
from private_lora.results.schema import COLUMNS, SCHEMA_VERSION, options_text
from private_lora.results.sidecars import read_sidecars
from private_lora.specs.stages import MEASUREMENTS

MASKED = ("packed", "packed_approx", "packed_simulated")
# Stages whose tables name a backend's options by its variant.
NAMED = ("layer", "block", "full_size")
KINDS = ("convergence", *MEASUREMENTS)
# Columns that schema version 1 did not have.
ADDED = ("schema_version", "options", "layer", "tokens", "inputs", "outputs", "sample", "note")
# Which of Concrete ML's paths a run took: the unit of this metric in version 1, an option now.
PATH = "hybrid_path"
OF_BLOCK = re.compile(r"(?P<layer>[^,]+), (?P<tokens>\d+)x(?P<inputs>\d+)x(?P<outputs>\d+)(?:, (?P<variant>.*))?")
OF_LAYER = re.compile(r"(?P<tokens>\d+)x(?P<inputs>\d+)x(?P<outputs>\d+)")


def convert(directory: Path, notes: dict[str, str] | None = None) -> dict[str, int]:
    """Rows by file name, after the records of a directory were rewritten in the present schema; the others are left alone.

    notes: what is to be known of a run, by its run_id, on top. Raises UserError, and changes nothing, on records of an unknown
    version and on notes of runs that are not there.
    """
    paths = [path for kind in KINDS if (path := directory / f"{kind}.csv").is_file()]
    if not paths:
        raise UserError(f"{directory} holds no records: {', '.join(f'{kind}.csv' for kind in KINDS)}")
    specs = {run_id: sidecar["spec"] for run_id, sidecar in read_sidecars(directory / "sidecars.jsonl").items()}
    converted = {path: _present(path, specs) for path in paths}
    _add_notes(directory, [row for rows in converted.values() for row in rows], notes or {})
    for path, rows in converted.items():
        write_rows(path, rows)
    return {path.name: len(rows) for path, rows in converted.items()}


def _present(path: Path, specs: dict[str, dict]) -> list[dict]:
    """The rows of a file in the present schema."""
    with open(path, newline="") as handle:
        reader = csv.DictReader(handle)
        columns, rows = tuple(reader.fieldnames or ()), list(reader)
    if columns == COLUMNS and {row["schema_version"] for row in rows} <= {"2", str(SCHEMA_VERSION)}:
        return [_with_mask(row) if row["schema_version"] == "2" else row for row in rows]
    if set(columns) != set(COLUMNS) - set(ADDED):
        versions = sorted({row.get("schema_version") or "unknown" for row in rows})
        raise UserError(f"{path} holds records of schema version {' and '.join(versions)}: only 1 and 2 can be converted")
    paths = {row["run_id"]: row["unit"] for row in rows if row["metric"] == PATH}
    converted = [_converted(row, specs.get(row["run_id"], {}), paths.get(row["run_id"])) for row in rows]
    return _numbered([_with_mask(row) for row in converted])


def _with_mask(row: dict) -> dict:
    """A row of version 2 in the present one; `variant` names the mask in the stages whose tables go by it."""
    new = row | {"schema_version": str(SCHEMA_VERSION)}
    if row["backend"] not in MASKED:
        return new
    new["options"] = options_text(json.loads(row["options"] or "{}") | {"mask": "fresh"})
    if row["stage"] in NAMED:
        new["variant"] = ", ".join(part for part in (row["variant"], "fresh") if part)
    return new


def _converted(row: dict, spec: dict, path: str | None) -> dict:
    """One row of version 1 in the present columns, but for its sample. spec: of its run. path: Concrete ML's, if it ran."""
    new = BLANK | row
    options = spec.get("backend_options", {}) | ({"path": path} if path else {})
    if row["metric"] == PATH:
        new["unit"] = ""
    if row["stage"] == "layer" and (found := OF_LAYER.fullmatch(row["variant"])):
        new |= {"variant": ""} | found.groupdict()
    if row["stage"] == "block":
        if found := OF_BLOCK.fullmatch(row["variant"]):
            new |= {name: value or "" for name, value in found.groupdict().items()}
        options = _options_in_block(spec, row["backend"], new["variant"])
    return new | {"options": options_text(options)}


def _options_in_block(spec: dict, backend: str, variant: str) -> dict:
    entries = [b for b in spec.get("backends", []) if (b["name"], b.get("variant", "")) == (backend, variant)]
    return entries[0].get("options", {}) if entries else {}


def _numbered(rows: list[dict]) -> list[dict]:
    """The rows with samples: each product of a repeat of a run is one, in the order in which they were recorded."""
    known: dict[str, dict[tuple, int]] = {}
    for row in rows:
        if row["stage"] not in ("layer", "block") or row["repeat"] == "":
            continue
        samples = known.setdefault(row["run_id"], {})
        key = tuple(row[name] for name in ("backend", "variant", "tokens", "inputs", "outputs", "repeat"))
        row["sample"] = samples.setdefault(key, len(samples))
    return rows


def _add_notes(directory: Path, rows: Iterable[dict], notes: dict[str, str]) -> None:
    there = {row["run_id"] for row in rows}
    for run_id in notes:
        if run_id not in there:
            raise UserError(f"there is no run {run_id!r} in the records of {directory}: check the note's run_id")
    for row in rows:
        if row["run_id"] in notes:
            row["note"] = notes[row["run_id"]]


def notes_of(texts: list[str]) -> dict[str, str]:
    """Notes by run_id, from texts such as `RUN_ID=text`."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise UserError(f"note {wrong[0]!r}: write RUN_ID=text")
    return dict(text.split("=", 1) for text in texts)
