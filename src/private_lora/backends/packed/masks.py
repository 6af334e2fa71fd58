"""The masks of a session: one seed from the operating system, a mask for every product, and how many secrets each has had.

The seed is public: whoever knows it knows the masks. What must not happen is that one mask gets too many secrets, so their
number is counted, and reserved on disk before a secret is drawn where the seed itself outlives the process. Secrets are drawn
afresh from the operating system and never kept, so a pair of mask and secret cannot occur twice, whatever is killed, resumed
or copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from private_lora.core.errors import Interrupted, UserError
from private_lora.core.files import make_directory, owners_alone
from private_lora.crypto.sampling import SEED_BYTES, fresh_seed
from private_lora.crypto.session_parameters import SECRETS_LOG2

MOST_SECRETS = 2**SECRETS_LOG2
# Secrets that are reserved at once for every mask: an fsync for each of these.
RESERVED_AT_ONCE = 256


class Masks:
    """Masks and counts of one session. directory: where seed and count outlive the process; None: they end with it.

    Raises UserError when the directory cannot be used.
    """

    def __init__(self, directory: Path | None = None, most_secrets: int = MOST_SECRETS):
        self.directory, self._most = directory, most_secrets
        self._used: Counter[bytes] = Counter()
        self._granted, self._lock = 0, threading.Lock()
        self.seed = bytes(fresh_seed()) if directory is None else self._kept_seed()

    def key(self, product: bytes) -> bytes:
        """Key of the mask of a product, which `product` identifies: its weight and everything that shapes a mask."""
        return hmac.new(self.seed, b"mask " + product, hashlib.sha256).digest()

    def spend(self, key: bytes, secrets: int) -> None:
        """Count secrets that are about to be drawn under a mask; raises Interrupted when it has had as many as it may."""
        with self._lock:
            wanted = self._used[key] + secrets
            if wanted > self._granted:
                self._reserve(-(-(wanted - self._granted) // RESERVED_AT_ONCE) * RESERVED_AT_ONCE)
            self._used[key] = wanted

    @property
    def most_used(self) -> int:
        """Secrets under the mask that has had most, by this process."""
        return max(self._used.values(), default=0)

    def _reserve(self, secrets: int) -> None:
        """Let every mask have so many more."""
        if self.directory is None:
            reserved = self._granted + secrets
        else:
            with self._ledger() as ledger:
                same = ledger.get("seed") == self.seed.hex()
                reserved = (ledger["reserved"] if same else self._most) + secrets
                if same:
                    self._write(ledger | {"reserved": reserved})
        if reserved > self._most:
            raise Interrupted(
                f"a mask has had its {self._most} secrets, the most that the proof of security allows here: run again, which "
                "goes on from the last step under new masks"
            )
        self._granted += secrets

    def _kept_seed(self) -> bytes:
        """The seed of the directory; a fresh one where there is none or its masks have no secrets left."""
        try:
            make_directory(self.directory)
            with self._ledger() as ledger:
                if not ledger or ledger["reserved"] + RESERVED_AT_ONCE > self._most:
                    ledger = {"seed": fresh_seed().hex(), "reserved": 0}
                    self._write(ledger)
                    for hint in self.directory.glob("*.hint"):  # of the masks that were
                        hint.unlink(missing_ok=True)
                return bytes.fromhex(ledger["seed"])
        except OSError as error:
            raise UserError(f"cannot keep hints in {self.directory}: {error.strerror}") from None

    @contextmanager
    def _ledger(self):
        """What is on disk ({} if nothing is), while no other process changes it."""
        with open(self.directory / "masks.lock", "w", opener=owners_alone) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self.directory / "masks.json"
            yield self._checked(path.read_bytes()) if path.exists() else {}

    def _checked(self, data: bytes) -> dict:
        """The ledger that these bytes are; raises UserError when they are none."""
        try:
            ledger = json.loads(data)
            if len(bytes.fromhex(ledger["seed"])) == SEED_BYTES and type(ledger["reserved"]) is int and ledger["reserved"] >= 0:
                return ledger
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(f"cannot keep hints in {self.directory}: its masks.json is damaged: delete it, and the hints beside it")

    def _write(self, ledger: dict) -> None:
        """Replace the ledger; it is on disk when this returns."""
        path, temporary = self.directory / "masks.json", self.directory / "masks.json.new"
        with open(temporary, "w", opener=owners_alone) as file:
            json.dump(ledger, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
