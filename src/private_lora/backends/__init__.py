"""Backends by name: who multiplies, and under what protection."""

from __future__ import annotations

from private_lora.registry import BACKENDS, check_name, load_object


def load(name: str, device: str = "cpu", **options):
    """The backend called `name`; raises UserError that lists the known names, or that the device is not supported.

    options: keyword arguments of the backend's class (see its docstring).
    """
    check_name("backend", name, BACKENDS)
    entry = BACKENDS[name]
    check_name(f"device for backend {name}", device, entry.devices)
    return load_object(entry.path)(device=device, **options)
