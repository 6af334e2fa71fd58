"""Backends by name: who multiplies, and under what protection. One contract for all (`backends.contract`).

Must not know of floats, layers or training: a backend multiplies signed integers by integer weights.
"""

from __future__ import annotations

import inspect

from private_lora.core.errors import UserError
from private_lora.core.names import check_name, load_object
from private_lora.specs.registry import BACKENDS


def load(name: str, device: str = "cpu", **options):
    """The backend called `name`; raises UserError that lists what is known of names, devices or options.

    options: keyword arguments of the backend's class (see its docstring).
    """
    check_name("backend", name, BACKENDS)
    entry = BACKENDS[name]
    if entry.kind != "matmul":
        raise UserError(f"backend {name!r} trains by itself and multiplies nothing by request: give it to a fine-tuning run")
    check_name(f"device for backend {name}", device, entry.devices)
    kind = load_object(entry.path)
    known = [option for option in inspect.signature(kind).parameters if option != "device"]
    for option in options:
        check_name(f"option of backend {name}", option, known)
    return kind(device=device, **options)
