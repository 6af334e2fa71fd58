"""All memory of another process that can be read, searched for many byte patterns at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np

CHUNK = 2**28
LONGEST = 4096
_REGION = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r(\S)\S+ \S+ \S+ \d+ *(.*)")
_BASE, _TABLE_BITS = np.uint64(1099511628211), 22


def can_be_read(pid: int) -> bool:
    """Whether this process may look into that one's memory."""
    try:
        return sum(len(piece) for piece in _pieces(pid, 2**12)) > 0
    except OSError:
        return False


def found_in(pid: int, patterns: dict[bytes, str], writable: bool = False) -> tuple[dict[bytes, str], int]:
    """The patterns (of up to LONGEST bytes) that are somewhere in a process's memory, and how many bytes were searched.

    writable: search only memory that the process may write to, where libraries and files that it reads are not.
    """
    by_length: dict[int, list[bytes]] = {}
    for pattern in patterns:
        by_length.setdefault(len(pattern), []).append(pattern)
    finders = [_Finder(length, some) for length, some in by_length.items()]
    found, searched = {}, 0
    for piece in _pieces(pid, CHUNK, writable):
        memory, searched = np.frombuffer(piece, np.uint8), searched + len(piece)
        for finder in finders:
            found |= {pattern: patterns[pattern] for pattern in finder.found(memory)}
    return found, searched


def _pieces(pid: int, size: int, writable: bool = False) -> Iterator[bytes]:
    """Memory by region; regions larger than `size` in pieces that overlap."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = _REGION.match(line)
            if match is None or (writable and match[3] != "w") or match[4] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            start, stop = int(match[1], 16), int(match[2], 16)
            for at in range(start, stop, size):
                try:
                    memory.seek(at)
                    yield memory.read(min(size + LONGEST, stop - at))
                except OSError:  # a mapping of a device, or one that was given back meanwhile
                    break


class _Finder:
    """Patterns of one length, found by a rolling hash."""

    def __init__(self, length: int, patterns: list[bytes]):
        assert 8 <= length <= LONGEST
        self._length = length
        self._by_hash: dict[int, list[bytes]] = {}
        for pattern in patterns:
            self._by_hash.setdefault(int(_hash(np.frombuffer(pattern, np.uint8))), []).append(pattern)
        self._keys = np.array(sorted(self._by_hash), np.uint64)
        self._table = np.zeros(2**_TABLE_BITS, np.bool_)
        self._table[(self._keys * _BASE) >> np.uint64(64 - _TABLE_BITS)] = True

    def found(self, memory: np.ndarray) -> set[bytes]:
        """Which of the patterns are in there."""
        places = np.empty(2**16, np.int64)
        count = _matches(memory, self._length, self._keys, self._table, places)
        found = set()
        for place in places[: min(count, len(places))]:
            here = memory[place : place + self._length].tobytes()
            found |= {pattern for pattern in self._by_hash[int(_hash(memory[place : place + self._length]))] if pattern == here}
        return found


@numba.njit(cache=True)
def _hash(values):
    total = np.uint64(0)
    for value in values:
        total = total * _BASE + np.uint64(value) + np.uint64(1)
    return total


@numba.njit(cache=True)
def _matches(memory, length, keys, table, places):
    """Fill `places` with positions whose next `length` bytes have one of the hashes; how many there are."""
    last = np.uint64(1)
    for _ in range(length):
        last *= _BASE
    total, count = np.uint64(0), 0
    for i in range(memory.size):
        total = total * _BASE + np.uint64(memory[i]) + np.uint64(1)
        if i >= length:
            total -= last * (np.uint64(memory[i - length]) + np.uint64(1))
        if i >= length - 1 and table[(total * _BASE) >> np.uint64(64 - _TABLE_BITS)]:
            at = np.searchsorted(keys, total)
            if at < keys.size and keys[at] == total:
                if count < places.size:
                    places[count] = i - length + 1
                count += 1
    return count
