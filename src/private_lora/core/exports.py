"""Front doors of rooms: a package gives out names of its modules, which are imported when a name is first used.

So a room can show what others may use without making them pay for torch. Inside the project, modules are imported by their own
path, from which reruns are decided (`results.fingerprints`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable


def front_door(package: str, **modules: str) -> tuple[Callable, Callable, list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package; modules: names that they give out, separated by spaces."""
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def attribute(name: str):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute, lambda: sorted(homes), sorted(homes)
