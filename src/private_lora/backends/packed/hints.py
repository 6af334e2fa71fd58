"""Hints: A W modulo Q of a session's mask and a public weight, computed by the client itself, so that nobody is trusted for it.

Checking a foreign hint on rounded residues would be unsound: an error of half the modulus passes half the time. In memory, or
in a file for each product that the next run maps into memory; a damaged tile is noticed when it is first used.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import xxhash

from private_lora.core.errors import Interrupted, UserError
from private_lora.core.files import atomic_path
from private_lora.core.memory import physical_memory_bytes
from private_lora.crypto.bits import TiledBits, tile_bytes, tile_count
from private_lora.crypto.kernels import fastest_kernel
from private_lora.crypto.planes import PlaneProduct
from private_lora.crypto.rlwe import mask_tiles
from private_lora.crypto.session_parameters import SessionParameters

# Hints without a directory may take this share of the machine's memory.
MEMORY_SHARE = 0.5
_MAGIC = b"private-lora hint 1\n"


class Hint:
    """Tiles of a hint (N x D values of `mask_bits` bits): `data(tile)` gives the bytes of one.

    digests: XXH3 of each tile, compared when it is first asked for; None where the tiles were computed by this process.
    """

    def __init__(self, tiles: np.ndarray, columns: int, digests: list[str] | None = None, path: Path | None = None):
        self._tiles, self.columns, self._digests, self._path = tiles, columns, digests, path
        self._checked = np.full(len(tiles), digests is None)

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles."""
        return self._tiles.nbytes

    def data(self, tile: int) -> np.ndarray:
        """Bytes of a tile (uint8); raises Interrupted when they are not those that were written."""
        found = self._tiles[tile]
        if not self._checked[tile]:
            if _digest(found) != self._digests[tile]:
                self._path.unlink(missing_ok=True)
                raise Interrupted(f"the hint {self._path} was damaged and is deleted: run again, which makes it anew")
            self._checked[tile] = True
        return found


def product_identity(weight: np.ndarray, parameters: SessionParameters) -> bytes:
    """What a mask and its hint belong to: an int8 weight (K x D), ring and modulus."""
    text = json.dumps([weight.shape, parameters.ring_size, parameters.log2_q])
    return hashlib.sha256(text.encode() + hashlib.sha256(np.ascontiguousarray(weight)).digest()).digest()


def compute(weight: np.ndarray, mask_key: bytes, parameters: SessionParameters) -> TiledBits:
    """A W modulo Q, its upper `mask_bits`: N x D."""
    masks = mask_tiles(mask_key, parameters, len(weight))
    return PlaneProduct(weight, fastest_kernel()).rounded_tiles(masks, parameters.log2_q, parameters.mask_bits)


def hint_bytes(columns: int, parameters: SessionParameters) -> int:
    """Bytes of the hint of a weight with so many columns."""
    return tile_count(columns) * tile_bytes(parameters.ring_size, parameters.mask_bits)


class HintStore:
    """Hints of one session, in a directory or in memory.

    bytes: of all that were asked for. made, seconds: how many were computed, and how long that took.
    """

    def __init__(self, directory: Path | None):
        self._directory, self.bytes, self.made, self.seconds = directory, 0, 0, 0.0

    def get(self, weight: np.ndarray, mask_key: bytes, parameters: SessionParameters) -> Hint:
        """The hint of a weight (int8, K x D) and mask: found, or computed and kept.

        Raises UserError, before any work, where it would not fit.
        """
        columns = weight.shape[1]
        size = hint_bytes(columns, parameters)
        self.bytes += size
        if self._directory is None:
            self._check_memory()
            return Hint(self._made(weight, mask_key, parameters), columns)
        identity = hashlib.sha256(mask_key + json.dumps(asdict(parameters), sort_keys=True).encode()).hexdigest()
        path = self._directory / f"{identity[:32]}.hint"
        found = _read(path, identity, columns, size)
        if found is None:
            _check_disk(self._directory, size)
            _write(path, identity, self._made(weight, mask_key, parameters))
            found = _read(path, identity, columns, size)
        return found

    def _made(self, weight: np.ndarray, mask_key: bytes, parameters: SessionParameters) -> np.ndarray:
        start = time.perf_counter()
        tiles = _apart(compute(weight, mask_key, parameters).data)
        self.made, self.seconds = self.made + 1, self.seconds + time.perf_counter() - start
        return tiles

    def _check_memory(self) -> None:
        most = MEMORY_SHARE * physical_memory_bytes()
        if self.bytes > most:
            raise UserError(
                f"hints of this model's layers take more than {most / 1e9:.1f} GB, {MEMORY_SHARE:.0%} of this machine's "
                "memory: keep them on disk (--hints DIR), or give the backend the option mask: fresh"
            )


def _apart(tiles: np.ndarray) -> np.ndarray:
    """The same in memory of its own: what stays for the whole run would leave holes between what comes and goes."""
    kept = np.frombuffer(mmap.mmap(-1, tiles.nbytes), np.uint8).reshape(tiles.shape)
    kept[:] = tiles
    return kept


def _check_disk(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if size > free:
        raise UserError(
            f"a hint of {size / 1e9:.1f} GB does not fit the {free / 1e9:.1f} GB that are free at {directory}: make room, give "
            "--hints another directory, or give the backend the option mask: fresh"
        )


def _read(path: Path, identity: str, columns: int, size: int) -> Hint | None:
    """The hint in a file, mapped into memory; None if there is none, or it is another's or cut short."""
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            header = json.loads(file.readline())
            first = file.tell()
        if header["identity"] != identity or os.path.getsize(path) != first + size:
            return None
        shape = tile_count(columns), size // tile_count(columns)
        return Hint(np.memmap(path, np.uint8, "r", first, shape), columns, header["digests"], path)
    except (OSError, ValueError, KeyError):
        return None


def _write(path: Path, identity: str, tiles: np.ndarray) -> None:
    """All or nothing."""
    header = json.dumps({"identity": identity, "digests": [_digest(tile) for tile in tiles]})
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(_MAGIC + header.encode() + b"\n")
            file.write(tiles)
    except OSError as error:
        raise UserError(f"cannot write the hint {path}: {error.strerror}") from None


def _digest(tile: np.ndarray) -> str:
    return xxhash.xxh3_128(np.ascontiguousarray(tile)).hexdigest()
