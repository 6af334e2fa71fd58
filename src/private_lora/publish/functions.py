"""Functions that make the published tables and figures, by name: each is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from private_lora.core.names import load_object
from private_lora.specs.descriptors import Published


class Functions(Mapping):
    """The function of every entry, by its name."""

    def __init__(self, entries: Mapping[str, Published]):
        self._entries = entries

    def __getitem__(self, name: str) -> Callable:
        return load_object(self._entries[name].function)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
