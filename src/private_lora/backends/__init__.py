"""Backends by name: who multiplies, and under what protection. One contract for all (`backends.contract`).

Must not know of floats, layers or training: a backend multiplies signed integers by integer weights.
"""

from __future__ import annotations

from private_lora.core.errors import UserError
from private_lora.core.memory import keep_freed_memory
from private_lora.core.names import check_name, load_object
from private_lora.specs.backends import BACKENDS
from private_lora.specs.base import check_backend


def load(name: str, device: str = "cpu", **options):
    """The backend called `name`; raises UserError that lists what is known of names, devices or options.

    options: keyword arguments of the backend's class, as its descriptor has them. From then on the process keeps the memory of
    freed matrices, which products ask for again and again.
    """
    check_name("backend", name, BACKENDS)
    check_backend(name, device, options)
    if BACKENDS[name].kind != "matmul":
        raise UserError(f"backend {name!r} trains by itself and multiplies nothing by request: give it to a fine-tuning run")
    keep_freed_memory()
    kind = load_object(BACKENDS[name].path)
    return kind(device=device, **options)
