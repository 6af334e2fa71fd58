"""Names that a user may choose from, and objects by name."""

from __future__ import annotations

import importlib

from private_lora.core.errors import UserError


def check_name(what: str, name: str, known) -> None:
    """Nothing if `name` is among `known`; raises UserError that lists the known names otherwise."""
    if name not in known:
        raise UserError(f"unknown {what} {name!r}: known are {', '.join(known)}")


def load_object(path: str):
    """The object named `module:attribute`."""
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)
