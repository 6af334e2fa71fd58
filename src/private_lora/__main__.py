"""`python -m private_lora`, and the command `private-lora`."""

import sys

from private_lora.core.errors import UserError


def main() -> int:
    """Exit status of the command line, also if what another package adds to this one cannot be used."""
    try:
        from private_lora.cli.main import main as run
    except UserError as error:
        print(f"private-lora: {error}", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
