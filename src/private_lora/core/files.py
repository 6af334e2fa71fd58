"""Files written all or nothing, and who may read them.

What a run writes tells of its data: losses, adapters, logs, seeds of masks. So a file is its owner's alone unless the writer
says that it is `shared`, as what is published is; then the user's umask decides. Directories that are there keep their mode.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

OWNERS_FILE, OWNERS_DIRECTORY = 0o600, 0o700
SHARED_FILE, SHARED_DIRECTORY = 0o666, 0o777  # before the umask
KEY_BYTES = 32


def make_directory(path: Path, shared: bool = False) -> None:
    """The directory and its parents, those that are missing: for their owner alone, or as the umask has it."""
    path = Path(path)
    for missing in reversed([directory for directory in (path, *path.parents) if not directory.exists()]):
        missing.mkdir(SHARED_DIRECTORY if shared else OWNERS_DIRECTORY, exist_ok=True)
    if not path.is_dir():
        raise FileExistsError(f"{path} is there and is no directory")


def owners_alone(path: str, flags: int) -> int:
    """For `open(..., opener=owners_alone)`: a file, new or not, that nobody but its owner may read from now on."""
    descriptor = os.open(path, flags, OWNERS_FILE)
    os.fchmod(descriptor, OWNERS_FILE)
    return descriptor


def owners_key(path: Path) -> bytes:
    """KEY_BYTES random bytes that are kept in the file for its owner alone: drawn by the first process that asks."""
    make_directory(path.parent)
    with open(path, "a+b", opener=owners_alone) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.seek(0)
        key = handle.read()
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            handle.truncate(0)
            handle.write(key)
    return key


@contextmanager
def atomic_path(path: Path, shared: bool = False):
    """A temporary path in the same directory that becomes `path` when the block ends without an error."""
    path = Path(path)
    make_directory(path.parent, shared)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    mode = SHARED_FILE if shared else OWNERS_FILE
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path):
    """A temporary directory that takes the place of `path`, with what was written into it, for its owner alone."""
    path = Path(path)
    make_directory(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        yield Path(temporary)
        for entry in Path(temporary).rglob("*"):  # nobody else could enter meanwhile
            entry.chmod(OWNERS_DIRECTORY if entry.is_dir() else OWNERS_FILE)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        Path(temporary).mkdir()  # for the end of the block, which removes it
