"""Result rows and where they come from: schema, recorder, reader, provenance, fingerprints of code, labels.

Must not know how numbers are computed, nor what is published of them.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    recorder="Recorder collect write_rows",
    schema="COLUMNS",
    reader="Data",
    provenance="environment machine write_sidecar",
    fingerprints="fingerprint source_files",
    runs="summarise_runs",
)
