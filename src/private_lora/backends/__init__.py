"""Backends by name: who multiplies, and under what protection."""

from __future__ import annotations

from private_lora.core.names import check_name, load_object
from private_lora.specs.backends import BACKENDS
from private_lora.specs.base import check_backend


def load(name: str, device: str = "cpu", **options):
    """The backend called `name`; raises UserError that lists what is known of names, devices or options.

    options: keyword arguments of the backend's class, as its descriptor has them.
    """
    check_name("backend", name, BACKENDS)
    check_backend(name, device, options)
    kind = load_object(BACKENDS[name].path)
    return kind(device=device, **options)
