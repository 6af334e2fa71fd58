"""All published tables and figures by name.

To add one, write its function and add an entry to `published_tables` or `published_figures`; a package of somebody else adds
one by an entry point of the group `private_lora.tables` or `private_lora.figures` that names a `Published`. Imports nothing
heavy: the workflow reads it at parse time.
"""

from __future__ import annotations

from private_lora.specs.descriptors import Published, by_name
from private_lora.specs.published_figures import FIGURES
from private_lora.specs.published_tables import TABLES

PUBLISHED_TABLES = by_name(TABLES, "private_lora.tables", Published)
PUBLISHED_FIGURES = by_name(FIGURES, "private_lora.figures", Published)


def chosen(known: dict[str, Published], names: str | list[str]) -> tuple[str, ...]:
    """The names to publish: those given, or every known one where `all` is asked for."""
    return tuple(known) if names == "all" else tuple(names)
