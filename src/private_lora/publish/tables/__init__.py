"""The published tables: `TABLES` maps a name to its function from `Data`; `make_table` writes the files of one."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.names import check_name
from private_lora.publish.functions import Functions
from private_lora.publish.tables.commits import with_commits
from private_lora.publish.tables.disturbed import with_disturbed
from private_lora.publish.tables.render import write_table
from private_lora.results.reader import Data, data_of
from private_lora.specs.published import PUBLISHED_TABLES

TABLES = Functions(PUBLISHED_TABLES)


def make_table(name: str, data: Data | str | Path, out: str | Path) -> None:
    """Write table `name` as `out` (.csv) with .md, .tex and .html beside it; UserError on an unknown name.

    data: what was read, or the directory with the collected CSVs.
    """
    check_name("table", name, PUBLISHED_TABLES)
    data = data_of(data)
    table = with_commits(with_disturbed(TABLES[name](data), data.disturbed), data.commits)
    write_table(table, out, PUBLISHED_TABLES[name].title)


__all__ = ["TABLES", "make_table", "write_table"]
