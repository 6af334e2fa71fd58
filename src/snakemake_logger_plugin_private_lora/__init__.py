"""A `--configfile` that does not exist, in one sentence.

Snakemake opens these files before it reads a workflow, and answers with a traceback. What it imports earlier are its
plugins, so this is one. It never handles a message: the check is done when it is imported.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase


def missing_configuration(arguments: list[str]) -> str | None:
    """The first configuration file among Snakemake's arguments that does not exist."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    given = parser.parse_known_args(arguments)[0].configfile
    return next((path for path in given if not Path(path).exists()), None)


class LogHandler(LogHandlerBase):
    """Says nothing."""

    writes_to_stream = writes_to_file = has_filter = has_formatter = needs_rulegraph = False

    def emit(self, record) -> None:
        """Nothing."""


if Path(sys.argv[0]).parent.name == "snakemake" or Path(sys.argv[0]).name == "snakemake":
    missing = missing_configuration(sys.argv[1:])
    if missing is not None:
        sys.exit(f"Error: there is no configuration {missing}: check the path")
