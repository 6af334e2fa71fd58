"""How a cell is shown: Python's formats, and units, which the name of a column says."""

from __future__ import annotations

from private_lora.core.errors import UserError
from private_lora.publish.tables.render import format_cell

# Dimension, and size in the first unit of that dimension.
UNITS = {
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "minutes": ("time", 60.0),
    "hours": ("time", 3600.0),
    "bytes": ("size", 1.0),
    "B": ("size", 1.0),
    "kB": ("size", 1e3),
    "MB": ("size", 1e6),
    "GB": ("size", 1e9),
    "%": ("share", 0.01),
}
# As columns are named: `step_time_s_median`, `upload_bytes_per_token`, `exact_match_after_percent`.
IN_NAMES = {"s": "s", "ms": "ms", "bytes": "bytes", "MB": "MB", "GB": "GB", "percent": "%"}
DIGITS = 3


class Sourced(str):
    """A text that may stand in a page with the numbers in it: they come from a record, a file or the code."""


def unit_of(column: str, of_row: str = "") -> str:
    """The unit that a column's name says, or else the row's own; a ratio has none."""
    words = column.split("_")
    named = next((IN_NAMES[word] for word in words if word in IN_NAMES), "")
    return named or ("" if "over" in words or "ratio" in words else of_row)


def shown(value: str | float, show: str = "", unit: str = "") -> Sourced:
    """The value in a format: `.2f`, or `.1f GB a token`, which converts it from `unit`. UserError if that cannot be done."""
    if isinstance(value, str):
        return Sourced(value)
    if not show:
        return Sourced(" ".join(part for part in (format_cell(value, DIGITS), unit) if part))
    spec, _, words = show.partition(" ")
    wanted = words.partition(" ")[0]
    if wanted in UNITS:
        value *= _factor(unit, wanted)
    try:
        return Sourced(f"{format(value, spec)} {words}".rstrip())
    except ValueError:
        raise UserError(f"{show!r} is no format of a number: write one like '.2f s'") from None


def _factor(unit: str, wanted: str) -> float:
    (dimension, size), (wanted_dimension, wanted_size) = UNITS.get(unit, ("", 1.0)), UNITS[wanted]
    if dimension != wanted_dimension:
        raise UserError(f"a value in {unit or 'no unit'} cannot be shown in {wanted}: known units are {', '.join(UNITS)}")
    return size / wanted_size
