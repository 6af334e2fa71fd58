"""Result rows and where they come from: schema, recorder, reader, provenance, fingerprints of code, labels.

Must not know how numbers are computed, nor what is published of them.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    recorder="Recorder collect write_rows",
    schema="COLUMNS SCHEMA_VERSION",
    reader="Data",
    provenance="Start machine write_sidecar",
    fingerprints="fingerprint source_files",
    runs="summarise_runs",
    disturbance="DISTURBED_SHARE disturbed_runs",
    sidecars="find_sidecars read_sidecars",
)
